"""Typed values of the channel back to Python objects, as user code gets them from a database."""

import datetime
import json
import uuid
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sandboxd.channel import values
from sandboxd.channel.packed import CodedTextColumn, NumberKind, NumbersColumn, ResultCells
from sandboxd.channel.values import Value

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NAIVE_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  a time without zone stays one
ARRAY_CODES: dict[NumberKind, str] = {
    "int64": "q",
    "float64": "d",
    "bool": "b",
    "timestamp": "q",
    "timestamptz": "q",
}
"""How `array` and numpy call the cells of a packed column."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An SQL interval with months in it, which no timedelta can hold."""

    months: int
    days: int
    micros: int


def to_python(value: Value) -> Any:
    """The plain object: str, int, Decimal, datetime, list and so on; JSON is parsed."""
    return _CONVERT[type(value)](value)


def column_to_python(column: ResultCells) -> list[Any]:
    """The cells of a column; None where it has no value."""
    match column:
        case values.ValueColumn():
            return [to_python(cell) for cell in column.values]
        case CodedTextColumn():
            texts: list[Any] = [*column.texts, None]
            return [texts[code] for code in array("i", column.codes)]
        case NumbersColumn():
            return _with_nulls(_numbers(column), array("i", column.nulls))
    return _with_nulls(list(column.values), column.nulls) if column.nulls else column.values


def _with_nulls(cells: list[Any], nulls: Iterable[int]) -> list[Any]:
    for position in nulls:
        cells[position] = None
    return cells


def _numbers(column: NumbersColumn) -> list[Any]:
    cells = array(ARRAY_CODES[column.kind], column.data)
    match column.kind:
        case "bool":
            return list(map(bool, cells))
        case "timestamp" | "timestamptz":
            epoch = _NAIVE_EPOCH if column.kind == "timestamp" else _EPOCH
            return [epoch + datetime.timedelta(microseconds=micros) for micros in cells]
    return cells.tolist()


def _timestamp(value: values.TimestampValue) -> datetime.datetime:
    zone = datetime.timezone(datetime.timedelta(seconds=value.offset_seconds))
    moment = _EPOCH + datetime.timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
    return moment.astimezone(zone if value.offset_seconds else datetime.UTC)


def _interval(value: values.IntervalValue) -> Interval | datetime.timedelta:
    if value.months:
        return Interval(value.months, value.days, value.micros)
    return datetime.timedelta(days=value.days, microseconds=value.micros)


_CONVERT: dict[type, Callable[[Any], Any]] = {
    values.NullValue: lambda _: None,
    values.BoolValue: lambda value: value.value,
    values.IntValue: lambda value: value.value,
    values.BigIntValue: lambda value: int(value.text),
    values.FloatValue: lambda value: value.value,
    values.ComplexValue: lambda value: complex(value.real, value.imag),
    values.DecimalValue: lambda value: Decimal(value.text),
    values.TextValue: lambda value: value.text,
    values.BytesValue: lambda value: value.data,
    values.TimestampValue: _timestamp,
    values.LocalDatetimeValue: lambda value: datetime.datetime.fromisoformat(value.text),
    values.DateValue: lambda value: datetime.date.fromisoformat(value.text),
    values.TimeValue: lambda value: datetime.time.fromisoformat(value.text),
    values.DurationValue: lambda value: datetime.timedelta(microseconds=value.micros),
    values.IntervalValue: _interval,
    values.UuidValue: lambda value: uuid.UUID(value.text),
    values.JsonValue: lambda value: json.loads(value.text),
    values.ListValue: lambda value: [to_python(item) for item in value.items],
    values.TupleValue: lambda value: tuple(to_python(item) for item in value.items),
    values.SetValue: lambda value: {to_python(item) for item in value.items},
    values.RecordValue: lambda value: {name: to_python(each) for name, each in value.fields},
    values.MapValue: lambda value: {to_python(key): to_python(each) for key, each in value.entries},
    values.DescriptionValue: lambda value: value.text,
}
