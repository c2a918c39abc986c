"""Values of the wire as natural Python objects, and back."""

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandboxd_api.v1 import value_pb2
from sandboxd_api.v1.value_pb2 import Value
from sandboxd_client import Array, Description, Interval, InvalidArgument, Series, Table, is_cut
from sandboxd_client.encoding import encode, json_or_csv
from sandboxd_client.value_types import CutDict, CutList, CutText, NanosecondDatetime
from sandboxd_client.values import natural

_ZONE = timezone(timedelta(hours=5, minutes=30))

_PAIRS = [
    None,
    True,
    0,
    -(2**63),
    2**63,
    -(10**400),
    1.5,
    math.inf,
    2 + 3j,
    Decimal("12.50"),
    Decimal("NaN"),
    "naïve \U0001f600",
    b"\xff\x00",
    datetime(2024, 1, 31, 12, 30, 0, 500_000, tzinfo=UTC),
    datetime(2024, 1, 31, 12, 30, tzinfo=_ZONE),
    datetime(1960, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2024, 1, 31, 12, 30, 0, 123_456),  # noqa: DTZ001 # local times have no zone
    date(2024, 1, 31),
    time(12, 30, tzinfo=_ZONE),
    -timedelta(microseconds=1),
    UUID(int=5),
    [1, [2, "x"]],
    (1, (2,)),
    {1, "a"},
    frozenset({1}),
    {"a": {"b": []}},
    {1: "x", (1, 2): None},
]


@pytest.mark.parametrize("thing", _PAIRS, ids=lambda thing: type(thing).__name__)
def test_plain_object_survives_the_round_trip(thing: object) -> None:
    found = natural(Value.FromString(encode(thing, field="x").SerializeToString()))
    if isinstance(thing, Decimal) and thing.is_nan():
        assert found.is_nan()
        return
    assert found == thing
    assert type(found) is type(thing)
    assert not is_cut(found)


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)


@given(
    st.recursive(
        _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner) | st.tuples(inner)
    )
)
def test_any_nesting_survives_the_round_trip(thing: object) -> None:
    assert natural(encode(thing, field="x")) == thing


def test_nan_stays_nan() -> None:
    assert math.isnan(natural(encode(math.nan, field="x")))


def test_int_longer_than_the_interpreter_converts_is_whole() -> None:
    assert natural(Value(big_integer="-1" + "0" * 5000)) == -(10**5000)
    with pytest.raises(InvalidArgument):
        encode(10**5000, field="x")


def test_numpy_scalars_are_encoded_as_what_they_hold() -> None:
    assert natural(encode(numpy.int64(3), field="x")) == 3
    assert natural(encode(numpy.float32(0.5), field="x")) == 0.5


def test_object_without_a_typed_form_is_refused_by_name_of_its_place() -> None:
    with pytest.raises(InvalidArgument) as caught:
        encode({"a": [object()]}, field="parameters")
    assert caught.value.field == "parameters.a[0]"


def test_cut_parts_say_how_much_there_was() -> None:
    text = natural(Value(text="abc", total_length=10))
    assert isinstance(text, CutText)
    assert (text, text.total_length) == ("abc", 10)
    items = natural(
        Value(list=value_pb2.ListValue(items=[Value(integer=1)], total_count=5)),
    )
    assert isinstance(items, CutList)
    assert items == [1]
    assert items.total_length == 5
    field = value_pb2.RecordValue.Field(name="a", value=Value(integer=1))
    record = natural(Value(record=value_pb2.RecordValue(fields=[field], total_count=2)))
    assert isinstance(record, CutDict)
    assert is_cut({"deep": [record]})


def test_nanoseconds_are_kept_beside_the_datetime() -> None:
    stamp = value_pb2.ZonedTimestamp(offset_seconds=3600)
    stamp.instant.seconds, stamp.instant.nanos = 1, 123_456_789
    found = natural(Value(timestamp=stamp))
    assert isinstance(found, NanosecondDatetime)
    assert (found.microsecond, found.nanosecond) == (123_456, 789)
    assert found.utcoffset() == timedelta(hours=1)
    local = natural(Value(local_datetime="2024-01-31T12:30:00.123456789"))
    assert (local.microsecond, local.nanosecond) == (123_456, 789)


@pytest.mark.parametrize(
    "forged",
    [
        Value(date="31st of June"),
        Value(decimal="twelve"),
        Value(uuid="x"),
        Value(big_integer="1e5"),
        Value(json="{"),
        Value(local_datetime="now"),
        Value(timestamp=value_pb2.ZonedTimestamp(offset_seconds=10**9)),
        Value(),
    ],
    ids=lambda value: str(value)[:20],
)
def test_forged_value_is_a_description(forged: Value) -> None:
    assert isinstance(natural(forged), Description)


def test_unhashable_key_of_a_forged_dict_is_described() -> None:
    entry = value_pb2.MapValue.Entry(key=encode([1], field="x"), value=encode(2, field="x"))
    found = natural(Value(map=value_pb2.MapValue(entries=[entry], total_count=1)))
    assert [type(key) for key in found] == [Description]


def test_interval_is_not_a_timedelta() -> None:
    found = natural(Value(interval=value_pb2.Interval(months=1, days=2, micros=3)))
    assert found == Interval(months=1, days=2, micros=3)


def _integers(name: str, values: list[int], nulls: list[int]) -> value_pb2.NamedColumn:
    column = value_pb2.IntegerColumn(values=values, nulls=nulls)
    return value_pb2.NamedColumn(name=name, dtype="int64", values=value_pb2.ColumnValues(integers=column))


def test_array_has_its_shape_as_lists_and_in_numpy() -> None:
    column = value_pb2.ColumnValues(integers=value_pb2.IntegerColumn(values=range(6)))
    wire = value_pb2.ArrayValue(dtype="int32", shape=[2, 3], values=column, total_count=6)
    found = natural(Value(array=wire))
    assert isinstance(found, Array)
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.to_numpy().tolist() == found.tolist()
    assert str(found.to_numpy().dtype) == "int32"
    assert not found.truncated


def test_table_reads_by_column_by_row_and_in_pandas() -> None:
    wire = value_pb2.TableValue(
        columns=[_integers("a", [1, 2], []), _integers("b", [3, 0], [1])], total_rows=5, total_columns=2
    )
    found = natural(Value(table=wire))
    assert isinstance(found, Table)
    assert found["b"].values == (3, None)
    assert list(found.rows()) == [{"a": 1, "b": 3}, {"a": 2, "b": None}]
    assert found.truncated
    frame = found.to_pandas()
    assert frame.shape == (2, 2)
    assert frame["a"].tolist() == [1, 2]


def test_series_keeps_its_labels() -> None:
    wire = value_pb2.SeriesValue(
        column=_integers("n", [1, 2], []), index=_integers("", [7, 8], []), total_rows=2
    )
    found = natural(Value(series=wire))
    assert isinstance(found, Series)
    assert found.to_dict() == {7: 1, 8: 2}
    assert found.to_pandas().loc[8] == 2


@pytest.mark.parametrize(
    ("data", "kind"),
    [("a,b\n1,2\n", "csv"), ('[{"a": 1}]', "json"), ("{not json}\n1\n", "csv"), ([1], "json")],
)
def test_data_is_sent_in_the_format_it_is_in(data: object, kind: str) -> None:
    assert json_or_csv(data, field="data")[0] == kind


def test_data_frame_is_sent_as_csv() -> None:
    import pandas

    frame = pandas.DataFrame({"a": [1]})
    assert json_or_csv(frame, field="data") == ("csv", "a\n1\n")
