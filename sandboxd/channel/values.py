"""Typed values as they cross the channel: a bounded picture of a Python object, never the object.

Arrays instead of maps keep them small; every container says how much there was in all, so that what
was left out is visible.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeAlias

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""As the wire has it: what does not fit is refused when it is decoded, not when it is passed on."""
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
SmallCount = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Nanos = Annotated[int, msgspec.Meta(ge=0, le=999_999_999)]
EpochSeconds = Annotated[int, msgspec.Meta(ge=-62_135_596_800, le=253_402_300_799)]
"""From the year 1 to the year 9999."""

MAX_WIRE_DEPTH = 88
"""Messages inside each other that a value may become: a protobuf reader goes down a hundred, and an event
with its execution and its result comes before the value."""


class _Node(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of every value: a tagged array."""


class NullValue(_Node, frozen=True, tag="null"):
    """None."""


class BoolValue(_Node, frozen=True, tag="bool"):
    """A truth value."""

    value: bool
    type_name: str = ""


class IntValue(_Node, frozen=True, tag="int"):
    """An integer that fits 64 bits, signed."""

    value: Int64
    type_name: str = ""


class BigIntValue(_Node, frozen=True, tag="bigint"):
    """An integer beyond 64 bits, as decimal text."""

    text: str


class FloatValue(_Node, frozen=True, tag="float"):
    """A double, NaN and infinities included."""

    value: float
    type_name: str = ""


class ComplexValue(_Node, frozen=True, tag="complex"):
    """A complex number."""

    real: float
    imag: float


class DecimalValue(_Node, frozen=True, tag="decimal"):
    """An exact decimal, as text."""

    text: str


class TextValue(_Node, frozen=True, tag="text"):
    """A string; `text` is its head when `total_length` (characters) is larger."""

    text: str
    total_length: Count
    type_name: str = ""


class BytesValue(_Node, frozen=True, tag="bytes"):
    """Bytes; `data` is their head when `total_length` is larger."""

    data: bytes
    total_length: Count
    type_name: str = ""


class TimestampValue(_Node, frozen=True, tag="timestamp"):
    """An instant: seconds and nanoseconds since the epoch, and the zone's offset from UTC in seconds."""

    seconds: EpochSeconds
    nanos: Nanos
    offset_seconds: Int32


class LocalDatetimeValue(_Node, frozen=True, tag="localdatetime"):
    """A date and time without zone, ISO 8601."""

    text: str


class DateValue(_Node, frozen=True, tag="date"):
    """A calendar date, ISO 8601."""

    text: str


class TimeValue(_Node, frozen=True, tag="time"):
    """A time of day, ISO 8601."""

    text: str


class DurationValue(_Node, frozen=True, tag="duration"):
    """A length of time in microseconds."""

    micros: Int64


class IntervalValue(_Node, frozen=True, tag="interval"):
    """An SQL interval: its three parts do not convert into each other."""

    months: Int32
    days: Int32
    micros: Int64


class UuidValue(_Node, frozen=True, tag="uuid"):
    """A UUID in its canonical text form."""

    text: str


class JsonValue(_Node, frozen=True, tag="json"):
    """A JSON document as text."""

    text: str


class ListValue(_Node, frozen=True, tag="list"):
    """A list; the head of it when `total_count` is larger."""

    items: list["Value"]
    total_count: Count


class TupleValue(_Node, frozen=True, tag="tuple"):
    """A tuple; the head of it when `total_count` is larger."""

    items: list["Value"]
    total_count: Count


class SetValue(_Node, frozen=True, tag="set"):
    """A set; some of its members when `total_count` is larger."""

    items: list["Value"]
    total_count: Count
    frozen: bool


class RecordValue(_Node, frozen=True, tag="record"):
    """A dict whose keys are all strings, in its order."""

    fields: list[tuple[str, "Value"]]
    total_count: Count


class MapValue(_Node, frozen=True, tag="map"):
    """A dict with keys of any kind, in its order."""

    entries: list[tuple["Value", "Value"]]
    total_count: Count


class DescriptionValue(_Node, frozen=True, tag="description"):
    """What has no typed form: its type's name and a bounded text."""

    type_name: str
    text: str
    truncated: bool


class IntColumn(_Node, frozen=True, tag="ints"):
    """Integers of a column; positions in `nulls` hold no value."""

    values: list[Int64]
    nulls: list[Int32]


class FloatColumn(_Node, frozen=True, tag="floats"):
    """Doubles of a column; positions in `nulls` hold no value."""

    values: list[float]
    nulls: list[Int32]


class BoolColumn(_Node, frozen=True, tag="bools"):
    """Truth values of a column; positions in `nulls` hold no value."""

    values: list[bool]
    nulls: list[Int32]


class TextColumn(_Node, frozen=True, tag="texts"):
    """Strings of a column; positions in `nulls` hold no value."""

    values: list[str]
    nulls: list[Int32]


class ValueColumn(_Node, frozen=True, tag="values"):
    """A column of mixed or rich values."""

    values: list["Value"]


Column: TypeAlias = IntColumn | FloatColumn | BoolColumn | TextColumn | ValueColumn


class NamedColumn(_Node, frozen=True, tag="column"):
    """A column of a table: name, dtype and values."""

    name: str
    dtype: str
    values: Column


class ArrayValue(_Node, frozen=True, tag="array"):
    """An n-dimensional array in C order; the head of it when `total_count` is larger."""

    dtype: str
    shape: list[Int64]
    values: Column
    total_count: Count


class TableValue(_Node, frozen=True, tag="table"):
    """A table such as a DataFrame; its first rows and columns when the totals are larger."""

    columns: list[NamedColumn]
    index: NamedColumn | None
    total_rows: Count
    total_columns: Count


class SeriesValue(_Node, frozen=True, tag="series"):
    """One labelled column; its first rows when `total_rows` is larger."""

    column: NamedColumn
    index: NamedColumn | None
    total_rows: Count


Value: TypeAlias = (
    NullValue
    | BoolValue
    | IntValue
    | BigIntValue
    | FloatValue
    | ComplexValue
    | DecimalValue
    | TextValue
    | BytesValue
    | TimestampValue
    | LocalDatetimeValue
    | DateValue
    | TimeValue
    | DurationValue
    | IntervalValue
    | UuidValue
    | JsonValue
    | ListValue
    | TupleValue
    | SetValue
    | RecordValue
    | MapValue
    | DescriptionValue
    | ArrayValue
    | TableValue
    | SeriesValue
)


def deeper_than(value: Value, levels: int) -> bool:
    """Whether `value` becomes more than `levels` messages inside each other on the wire."""
    inner = _INNER.get(type(value))
    if inner is None:
        return False
    taken, parts = inner
    left = levels - taken
    # Most parts are plain, and there may be millions of them.
    return left < 0 or any(type(part) in _INNER and deeper_than(part, left) for part in parts(value))


def _items(value: ListValue | TupleValue | SetValue) -> Iterable[Value]:
    return value.items


def _mixed(columns: Iterable[NamedColumn | ArrayValue | None]) -> Iterable[Value]:
    found = [column.values for column in columns if column is not None]
    return (item for column in found if isinstance(column, ValueColumn) for item in column.values)


_INNER: dict[type, tuple[int, Callable[[Any], Iterable[Value]]]] = {
    ListValue: (2, _items),
    TupleValue: (2, _items),
    SetValue: (2, _items),
    RecordValue: (3, lambda value: (item for _, item in value.fields)),
    MapValue: (3, lambda value: (item for entry in value.entries for item in entry)),
    ArrayValue: (4, lambda value: _mixed([value])),
    TableValue: (5, lambda value: _mixed([*value.columns, value.index])),
    SeriesValue: (5, lambda value: _mixed([value.column, value.index])),
}
"""The levels that a container takes, and what it holds; other values have no parts."""
