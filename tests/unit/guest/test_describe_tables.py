"""Typed values of the objects of numpy and pandas: scalars, arrays, series, frames."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sandboxd.channel import values as v
from tests.unit.guest.described import text_value, value_of

CASES: dict[str, tuple[Any, v.Value]] = {
    "numpy int": (np.int16(3), v.IntValue(value=3, type_name="numpy.int16")),
    "numpy uint64": (np.uint64(2**64 - 1), v.BigIntValue(text=str(2**64 - 1))),
    "numpy float": (np.float32(0.5), v.FloatValue(value=0.5, type_name="numpy.float32")),
    "numpy bool": (np.bool_(1), v.BoolValue(value=True, type_name="numpy.bool")),
    "numpy text": (np.str_("a"), text_value("a", "numpy.str_")),
    "numpy instant": (np.datetime64("2024-01-31"), v.LocalDatetimeValue(text="2024-01-31T00:00:00")),
    "numpy duration": (np.timedelta64(1, "s"), v.DurationValue(micros=1_000_000)),
    "numpy not a time": (np.datetime64("NaT", "s"), v.NullValue()),
    "array": (
        np.array([[1, 2], [3, 4]]),
        v.ArrayValue(dtype="int64", shape=[2, 2], values=v.IntColumn(values=[1, 2, 3, 4], nulls=[]),
            total_count=4,
        ),
    ),
    "empty array": (
        np.zeros((0, 3)),
        v.ArrayValue(dtype="float64", shape=[0, 3], values=v.FloatColumn(values=[], nulls=[]), total_count=0),
    ),
    "array without dimensions": (
        np.array(True),
        v.ArrayValue(dtype="bool", shape=[], values=v.BoolColumn(values=[True], nulls=[]), total_count=1),
    ),
    "transposed array": (
        np.array([[1, 2], [3, 4]]).T,
        v.ArrayValue(dtype="int64", shape=[2, 2], values=v.IntColumn(values=[1, 3, 2, 4], nulls=[]),
            total_count=4,
        ),
    ),
    "array of texts": (
        np.array(["a", "b"]),
        v.ArrayValue(dtype="<U1", shape=[2], values=v.TextColumn(values=["a", "b"], nulls=[]), total_count=2),
    ),
    "array of complex": (
        np.array([1j]),
        v.ArrayValue(
            dtype="complex128", shape=[1], values=v.ValueColumn(values=[v.ComplexValue(real=0.0, imag=1.0)]),
            total_count=1,
        ),
    ),
    "array of uint64": (
        np.array([2**64 - 1], dtype=np.uint64),
        v.ArrayValue(
            dtype="uint64", shape=[1], values=v.ValueColumn(values=[v.BigIntValue(text=str(2**64 - 1))]),
            total_count=1,
        ),
    ),
    "pandas timestamp": (
        pd.Timestamp("1970-01-01 00:00:01.000000001", tz="UTC"),
        v.TimestampValue(seconds=1, nanos=1, offset_seconds=0),
    ),
    "pandas NaT": (pd.NaT, v.NullValue()),
    "pandas NA": (pd.NA, v.NullValue()),
    "pandas duration": (pd.Timedelta("1s"), v.DurationValue(micros=1_000_000)),
    "series": (
        pd.Series([1.5, 2.5], name="n"),
        v.SeriesValue(
            column=v.NamedColumn(
                name="n", dtype="float64", values=v.FloatColumn(values=[1.5, 2.5], nulls=[])
            ),
            index=None, total_rows=2,
        ),
    ),
    "index": (
        pd.Index([5, 6]),
        v.SeriesValue(
            column=v.NamedColumn(name="", dtype="int64", values=v.IntColumn(values=[5, 6], nulls=[])),
            index=None, total_rows=2,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), CASES.values(), ids=CASES)
def test_value_of_a_type(given: Any, expected: v.Value) -> None:
    assert value_of(given) == expected


def test_frame_keeps_columns_index_and_missing_values() -> None:
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "f": [1.5, np.nan],
            "i": pd.array([7, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "s": ["x", None],
            "c": pd.Categorical(["u", "u"]),
            "t": pd.to_datetime(["2024-01-31", None]),
            "mixed": [1, "a"],
            5: [[1], None],
        },
        index=pd.Index(["first", "second"], name="which"),
    )
    value = value_of(frame)
    assert isinstance(value, v.TableValue)
    columns = {column.name: column.values for column in value.columns}
    assert columns["n"] == v.IntColumn(values=[1, 2], nulls=[])
    assert isinstance(columns["f"], v.FloatColumn)
    assert math.isnan(columns["f"].values[1])
    assert columns["i"] == v.IntColumn(values=[7, 0], nulls=[1])
    assert columns["b"] == v.BoolColumn(values=[True, False], nulls=[1])
    assert columns["s"] == v.TextColumn(values=["x", ""], nulls=[1])
    assert columns["c"] == v.TextColumn(values=["u", "u"], nulls=[])
    assert columns["t"] == v.ValueColumn(
        values=[v.LocalDatetimeValue(text="2024-01-31T00:00:00"), v.NullValue()]
    )
    assert columns["mixed"] == v.ValueColumn(values=[v.IntValue(value=1), text_value("a")])
    assert isinstance(columns["5"], v.ValueColumn)
    assert value.index is not None
    assert value.index.name == "which"
    assert value.index.values == v.TextColumn(values=["first", "second"], nulls=[])


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame([[1, 2]], columns=["same", "same"]),
        pd.DataFrame({"a": [1, 2]}).set_index([pd.Index(["x", "y"]), pd.Index([1, 2])]),
        pd.DataFrame({("a", "b"): [1]}),
        pd.DataFrame({"p": pd.period_range("2024", periods=2, freq="M"), "iv": pd.interval_range(0, 2)}),
        pd.DataFrame({"z": pd.to_datetime(["2024-01-01"]).tz_localize("Europe/Berlin")}),
        pd.DataFrame({"s": pd.arrays.SparseArray([0, 1])}),
        pd.DataFrame({"none": [None, None]}),
        pd.DataFrame({"td": pd.to_timedelta(["1s", None])}),
    ],
)
def test_unusual_frame_is_described(frame: pd.DataFrame) -> None:
    value = value_of(frame)
    assert isinstance(value, v.TableValue)
    assert (value.total_rows, value.total_columns) == frame.shape
