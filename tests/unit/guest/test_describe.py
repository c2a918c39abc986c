"""Typed values of Python objects: what each type becomes, bounds, and that no user code runs."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxd.channel import values as v
from sandboxd.channel.messages import Finished
from sandboxd.guest.describe import to_value
from sandboxd.guest.from_values import to_python

SIZE = 1 << 20


class Color(enum.Enum):
    RED = 1


class Weight(enum.IntEnum):
    HEAVY = 9


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


class MyInt(int):
    pass


class MyDict(dict[str, int]):
    pass


def _value(given: Any) -> v.Value:
    value, truncated = to_value(given, size=SIZE)
    assert not truncated
    encoded = msgspec.msgpack.encode(Finished(run_id=1, value=value))
    assert msgspec.msgpack.decode(encoded, type=Finished).value is not None
    return value


def _text(text: str, kind: str = "") -> v.TextValue:
    return v.TextValue(text=text, total_length=len(text), type_name=kind)


HOUR = datetime.timedelta(hours=1)

CASES: dict[str, tuple[Any, v.Value]] = {
    "None": (None, v.NullValue()),
    "bool": (True, v.BoolValue(value=True)),
    "int": (-5, v.IntValue(value=-5)),
    "int of 64 bits": (2**63 - 1, v.IntValue(value=2**63 - 1)),
    "int beyond 64 bits": (-(2**63) - 1, v.BigIntValue(text=str(-(2**63) - 1))),
    "int subclass": (MyInt(4), v.IntValue(value=4, type_name=f"{__name__}.MyInt")),
    "float": (1.5, v.FloatValue(value=1.5)),
    "infinity": (math.inf, v.FloatValue(value=math.inf)),
    "complex": (1 + 2j, v.ComplexValue(real=1.0, imag=2.0)),
    "str": ("café", _text("café")),
    "lone surrogate": ("\ud800", v.TextValue(text="\\ud800", total_length=1)),
    "bytes": (b"\xff", v.BytesValue(data=b"\xff", total_length=1)),
    "bytearray": (bytearray(b"a"), v.BytesValue(data=b"a", total_length=1, type_name="bytearray")),
    "Decimal": (decimal.Decimal("1.20"), v.DecimalValue(text="1.20")),
    "UUID": (uuid.UUID(int=0), v.UuidValue(text="00000000-0000-0000-0000-000000000000")),
    "naive datetime": (
        datetime.datetime.fromisoformat("2024-01-31T12:30:00.500"),
        v.LocalDatetimeValue(text="2024-01-31T12:30:00.500000"),
    ),
    "aware datetime": (
        datetime.datetime(1970, 1, 1, 1, tzinfo=datetime.timezone(HOUR)),
        v.TimestampValue(seconds=0, nanos=0, offset_seconds=3600),
    ),
    "datetime before the epoch": (
        datetime.datetime(1969, 12, 31, 23, 59, 59, 250000, tzinfo=datetime.UTC),
        v.TimestampValue(seconds=-1, nanos=250_000_000, offset_seconds=0),
    ),
    "datetime of a zone": (
        datetime.datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        v.TimestampValue(seconds=1719784800, nanos=0, offset_seconds=7200),
    ),
    "date": (datetime.date(2024, 1, 31), v.DateValue(text="2024-01-31")),
    "time": (datetime.time(1, 2, 3), v.TimeValue(text="01:02:03")),
    "timedelta": (datetime.timedelta(days=-1, microseconds=1), v.DurationValue(micros=-86_399_999_999)),
    "longest timedelta": (
        datetime.timedelta.max,
        v.DescriptionValue(
            type_name="datetime.timedelta", text="999999999 days, 23:59:59.999999", truncated=False
        ),
    ),
    "Fraction": (
        fractions.Fraction(1, 3),
        v.DescriptionValue(type_name="fractions.Fraction", text="1/3", truncated=False),
    ),
    "Enum": (Color.RED, v.DescriptionValue(type_name=f"{__name__}.Color", text="Color.RED", truncated=False)),
    "IntEnum": (Weight.HEAVY, v.IntValue(value=9, type_name=f"{__name__}.Weight")),
    "list": ([1, "a"], v.ListValue(items=[v.IntValue(value=1), _text("a")], total_count=2)),
    "tuple": ((1,), v.TupleValue(items=[v.IntValue(value=1)], total_count=1)),
    "frozenset": (frozenset({1}), v.SetValue(items=[v.IntValue(value=1)], total_count=1, frozen=True)),
    "range": (range(0, 5, 4), v.ListValue(items=[v.IntValue(value=0), v.IntValue(value=4)], total_count=2)),
    "empty range": (range(5, 0), v.ListValue(items=[], total_count=0)),
    "deque": (collections.deque([1]), v.ListValue(items=[v.IntValue(value=1)], total_count=1)),
    "dict": ({"a": 1}, v.RecordValue(fields=[("a", v.IntValue(value=1))], total_count=1)),
    "dict of other keys": (
        {1: 2}, v.MapValue(entries=[(v.IntValue(value=1), v.IntValue(value=2))], total_count=1),
    ),
    "Counter": (collections.Counter("a"), v.RecordValue(fields=[("a", v.IntValue(value=1))], total_count=1)),
    "defaultdict": (
        collections.defaultdict(int, a=1), v.RecordValue(fields=[("a", v.IntValue(value=1))], total_count=1),
    ),
    "dict subclass": (MyDict(a=1), v.RecordValue(fields=[("a", v.IntValue(value=1))], total_count=1)),
    "keys": ({"a": 1}.keys(), v.ListValue(items=[_text("a")], total_count=1)),
    "namedtuple": (
        Pair(1, "b"),
        v.RecordValue(fields=[("left", v.IntValue(value=1)), ("right", _text("b"))], total_count=2),
    ),
    "dataclass": (
        Point(1),
        v.RecordValue(fields=[("x", v.IntValue(value=1)), ("y", v.FloatValue(value=0.5))], total_count=2),
    ),
    "dataclass with slots": (Slotted(1), v.RecordValue(fields=[("x", v.IntValue(value=1))], total_count=1)),
    "numpy int": (np.int16(3), v.IntValue(value=3, type_name="numpy.int16")),
    "numpy uint64": (np.uint64(2**64 - 1), v.BigIntValue(text=str(2**64 - 1))),
    "numpy float": (np.float32(0.5), v.FloatValue(value=0.5, type_name="numpy.float32")),
    "numpy bool": (np.bool_(1), v.BoolValue(value=True, type_name="numpy.bool")),
    "numpy text": (np.str_("a"), _text("a", "numpy.str_")),
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
    assert _value(given) == expected


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
    value = _value(frame)
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
    assert columns["mixed"] == v.ValueColumn(values=[v.IntValue(value=1), _text("a")])
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
    value = _value(frame)
    assert isinstance(value, v.TableValue)
    assert (value.total_rows, value.total_columns) == frame.shape


def test_cycles_are_marked() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert _value(loop) == v.ListValue(
        items=[v.DescriptionValue(type_name="list", text="<cycle>", truncated=False)], total_count=1
    )


def test_the_same_object_twice_is_no_cycle() -> None:
    part = [1]
    assert _value([part, part]) == v.ListValue(items=[_value(part)] * 2, total_count=2)


class Hostile:
    """Everything that could run, raises."""

    def __init__(self) -> None:
        object.__setattr__(self, "inner", 5)

    def _raise(self, *_: Any) -> Any:
        raise AssertionError("user code ran")

    __repr__ = __str__ = __len__ = __iter__ = __getattribute__ = __getattr__ = __eq__ = _raise  # type: ignore
    __hash__ = __bool__ = __int__ = __float__ = __index__ = __format__ = __reduce__ = _raise  # type: ignore
    __class__ = property(_raise)  # type: ignore


class HostileDict(dict[str, int]):
    __getattribute__ = __iter__ = items = keys = __len__ = __getitem__ = __repr__ = Hostile._raise  # type: ignore


class HostileList(list[int]):
    __getattribute__ = __iter__ = __len__ = __getitem__ = __repr__ = Hostile._raise  # type: ignore


class HostileText(str):
    __getattribute__ = __iter__ = __len__ = __getitem__ = __repr__ = __str__ = encode = Hostile._raise  # type: ignore
    __slots__ = ()


class HostileInt(int):
    __getattribute__ = __index__ = __int__ = __str__ = __repr__ = bit_length = Hostile._raise  # type: ignore


class HostileZone(datetime.tzinfo):
    utcoffset = dst = tzname = __repr__ = Hostile._raise


def _array_of(item: Any) -> Any:
    array = np.empty(1, dtype=object)
    array[0] = item
    return array


def _series_of(item: Any) -> Any:
    series = pd.Series([0], dtype=object)
    series.array._ndarray[0] = item
    return series


HOSTILE: dict[str, Callable[[], Any]] = {
    "instance": Hostile,
    "in a list": lambda: [Hostile()],
    "in a dict": lambda: {"k": Hostile()},
    "dict": lambda: HostileDict(a=1),
    "list": lambda: HostileList([1]),
    "text": lambda: HostileText("text"),
    "int": lambda: HostileInt(5),
    "big int": lambda: HostileInt(2**70),
    "zone": lambda: datetime.datetime(2024, 1, 1, tzinfo=HostileZone()),
    "zone of a time": lambda: datetime.time(1, tzinfo=HostileZone()),
    "namespace": lambda: types.SimpleNamespace(a=Hostile()),
    "in an array": lambda: _array_of(Hostile()),
    "in a series": lambda: _series_of(Hostile()),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_no_code_of_the_value_runs(make: Callable[[], Any]) -> None:
    value, _ = to_value(make(), size=SIZE)
    assert msgspec.msgpack.encode(value)


def test_an_unknown_object_is_described_by_its_attributes() -> None:
    assert _value(types.SimpleNamespace(a=1)) == v.RecordValue(
        fields=[("a", v.IntValue(value=1))], total_count=1
    )
    described = _value(Plain())
    assert described == v.DescriptionValue(
        type_name=f"{__name__}.Plain", text="<Plain, a=1, b='x'>", truncated=False
    )


class Plain:
    def __init__(self) -> None:
        self.a = 1
        self.b = "x"


def _nested() -> Iterator[Any]:
    yield ["x" * 100] * 1000
    yield {str(n): {"k": [n] * 10} for n in range(1000)}
    yield dict.fromkeys(range(1000), b"y" * 50)
    yield np.arange(100_000)
    yield np.array(["z" * 50] * 1000)
    yield pd.DataFrame({"t": ["é" * 100] * 1000, "n": range(1000)})
    yield pd.Series([[1, 2, 3]] * 1000)
    yield "é" * 100_000
    yield ["\U0001f600" * 10] * 10_000
    yield [datetime.datetime(2024, 1, 31, 12, 30, 0, 1, tzinfo=zone) for zone in (None, datetime.UTC)] * 5000
    yield [np.float32(1), np.int8(1), np.bool_(1), np.complex64(1j)] * 5000
    yield [uuid.UUID(int=5), decimal.Decimal("1.5"), fractions.Fraction(1, 3), 10**30, Color.RED, 1j] * 5000
    yield [None, True, 1, 1.5, "a", b"a", datetime.date(2024, 1, 1), datetime.timedelta(1)] * 5000
    yield [object()] * 1000
    yield [Point(1)] * 5000
    yield [[[["deep"] * 20] * 20] * 20] * 20


@pytest.mark.parametrize("size", [200, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("given", list(_nested()), ids=lambda given: type(given).__name__)
def test_result_fits_its_size_and_says_that_it_was_cut(given: Any, size: int) -> None:
    value, truncated = to_value(given, size=size)
    encoded = msgspec.msgpack.encode(value)
    assert len(encoded) <= size + 300
    whole, _ = to_value(given, size=1 << 26)
    assert truncated == (value != whole)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
        | st.decimals() | st.datetimes().map(lambda moment: moment.replace(fold=0)) | st.uuids(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
        | st.dictionaries(st.integers(), inner),
        max_leaves=30,
    ),
    st.integers(50, 5000),
)  # fmt: skip
def test_any_plain_value_encodes_and_comes_back(given: Any, size: int) -> None:
    value, truncated = to_value(given, size=1 << 20)
    assert not truncated
    back = to_python(msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=v.Value))
    assert repr(back) == repr(given)
    small, _ = to_value(given, size=size)
    assert len(msgspec.msgpack.encode(small)) <= size + 300
