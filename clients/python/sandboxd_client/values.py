"""Typed values of the wire as natural Python objects, and plain Python objects as typed values.

What was cut stays visible: text, bytes and containers that are not complete come as subclasses
(`CutText`, `CutList` ...) whose `total_length` says how much there was; tables, arrays and
descriptions carry their totals themselves. `is_cut` tells for any value, nested parts included.
"""

import json
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from sandboxd_api.v1 import value_pb2

from sandboxd_client.tables import Array, Column, Series, Table
from sandboxd_client.value_types import (
    CutBytes,
    CutDict,
    CutFrozenSet,
    CutList,
    CutSet,
    CutText,
    CutTuple,
    Description,
    Interval,
    NanosecondDatetime,
)

Natural: TypeAlias = Any
"""Whatever Python object a value naturally is."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DECIMAL_DIGITS = 1_000_000
_SHOWN_OF_FORGED = 200


def natural(value: value_pb2.Value) -> Natural:
    """The Python object that `value` pictures; a kind this client does not know is a `Description`."""
    kind = value.WhichOneof("kind") or ""
    convert = _NATURAL.get(kind)
    if convert is None:
        return Description(type_name=value.type_name or "unknown", text=f"<a value of unknown kind {kind}>")
    try:
        return convert(value)
    except (ValueError, ArithmeticError):  # user code can forge a date that is none
        text = str(getattr(value, kind))[:_SHOWN_OF_FORGED]
        return Description(type_name=value.type_name or kind, text=text, truncated=True)


def is_cut(value: Natural) -> bool:
    """Whether `value`, or anything in it, is less than there was."""
    if getattr(value, "total_length", None) is not None or getattr(value, "truncated", False):
        return True
    if isinstance(value, Mapping):
        return any(is_cut(key) or is_cut(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return any(is_cut(item) for item in value)
    return False


def _text(value: value_pb2.Value) -> str:
    return CutText(value.text, value.total_length) if value.total_length else value.text


def _data(value: value_pb2.Value) -> bytes:
    return CutBytes(value.data, value.total_length) if value.total_length else value.data


def _big_integer(value: value_pb2.Value) -> int | Description:
    digits = value.big_integer
    if len(digits) > 4000:  # int() refuses more than 4300 decimal digits
        return _int_of_long_digits(digits)
    return int(digits)


def _int_of_long_digits(digits: str) -> int | Description:
    """Decimal digits in chunks: the interpreter's guard against quadratic conversion stays as it is."""
    sign, body = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
    if not body.isdecimal() or len(body) > _MAX_DECIMAL_DIGITS:
        return Description(type_name="int", text=digits[:80] + "…", truncated=True)
    return sign * _join(body)


def _join(body: str) -> int:
    if len(body) <= 4000:
        return int(body)
    middle = len(body) // 2
    scale: int = 10**middle
    return _join(body[:-middle]) * scale + _join(body[-middle:])


def _timestamp(value: value_pb2.Value) -> datetime:
    stamp = value.timestamp
    zone = timezone(timedelta(seconds=stamp.offset_seconds)) if stamp.offset_seconds else UTC
    micros, rest = divmod(stamp.instant.nanos, 1000)
    moment = (_EPOCH + timedelta(seconds=stamp.instant.seconds, microseconds=micros)).astimezone(zone)
    return NanosecondDatetime.of(moment, rest) if rest else moment


def _local_datetime(value: value_pb2.Value) -> datetime:
    moment, rest = _parse_datetime(value.local_datetime)
    return NanosecondDatetime.of(moment, rest) if rest else moment


def _parse_datetime(text: str) -> tuple[datetime, int]:
    """An ISO 8601 datetime with up to nine fractional digits, of which `datetime` itself reads six."""
    head, dot, fraction = text.partition(".")
    nanos = int(fraction[:9].ljust(9, "0")) if dot else 0
    moment = datetime.fromisoformat(head)
    return moment.replace(microsecond=nanos // 1000), nanos % 1000


def _items(items: Any) -> list[Natural]:
    return [natural(item) for item in items]


def _list(value: value_pb2.Value) -> list[Natural]:
    items = _items(value.list.items)
    total = value.list.total_count
    return CutList(items, total) if total > len(items) else items


def _tuple(value: value_pb2.Value) -> tuple[Natural, ...]:
    items = tuple(_items(value.tuple.items))
    total = value.tuple.total_count
    return CutTuple(items, total) if total > len(items) else items


def _set(value: value_pb2.Value) -> set[Natural] | frozenset[Natural]:
    items = [_hashable(item) for item in _items(value.set.items)]
    total = value.set.total_count
    if value.set.frozen:
        return CutFrozenSet(items, total) if total > len(items) else frozenset(items)
    return CutSet(items, total) if total > len(items) else set(items)


def _record(value: value_pb2.Value) -> dict[Natural, Natural]:
    found = {field.name: natural(field.value) for field in value.record.fields}
    total = value.record.total_count
    return CutDict(found, total) if total > len(value.record.fields) else found


def _map(value: value_pb2.Value) -> dict[Natural, Natural]:
    found = {_hashable(natural(entry.key)): natural(entry.value) for entry in value.map.entries}
    total = value.map.total_count
    return CutDict(found, total) if total > len(value.map.entries) else found


def _hashable(item: Natural) -> Hashable:
    """`item`, or a picture of it where user code sent as a key or member what can't be one."""
    try:
        hash(item)
    except TypeError:
        return Description(type_name=type(item).__qualname__, text=str(item)[:200], truncated=True)
    return item  # type: ignore[no-any-return] # hash() has just shown it


def _description(value: value_pb2.Value) -> Description:
    found = value.description
    return Description(type_name=found.type_name, text=found.text, truncated=found.truncated)


def _array(value: value_pb2.Value) -> Array:
    found = value.array
    return Array(
        dtype=found.dtype,
        shape=tuple(found.shape),
        values=column_values(found.values),
        total_count=found.total_count,
    )


def _table(value: value_pb2.Value) -> Table:
    found = value.table
    return Table(
        columns=tuple(_column(column) for column in found.columns),
        index=_column(found.index) if found.HasField("index") else None,
        total_rows=found.total_rows,
        total_columns=found.total_columns,
    )


def _series(value: value_pb2.Value) -> Series:
    found = value.series
    return Series(
        column=_column(found.column),
        index=_column(found.index) if found.HasField("index") else None,
        total_rows=found.total_rows,
    )


def _column(column: value_pb2.NamedColumn) -> Column:
    return Column(name=column.name, dtype=column.dtype, values=tuple(column_values(column.values)))


def column_values(values: value_pb2.ColumnValues) -> list[Natural]:
    """The values of a column, NULL as None."""
    kind = values.WhichOneof("kind")
    if kind is None:
        return []
    if kind == "mixed":
        return _items(values.mixed.values)
    packed = getattr(values, kind)
    found: list[Natural] = list(packed.values)
    for position in packed.nulls:
        if 0 <= position < len(found):
            found[position] = None
    return found


_NATURAL: dict[str, Callable[[value_pb2.Value], Natural]] = {
    "null": lambda _: None,
    "boolean": lambda value: value.boolean,
    "integer": lambda value: value.integer,
    "big_integer": _big_integer,
    "floating": lambda value: value.floating,
    "complex": lambda value: complex(value.complex.real, value.complex.imaginary),
    "decimal": lambda value: Decimal(value.decimal),
    "text": _text,
    "data": _data,
    "timestamp": _timestamp,
    "local_datetime": _local_datetime,
    "date": lambda value: date.fromisoformat(value.date),
    "time": lambda value: time.fromisoformat(value.time),
    "duration_micros": lambda value: timedelta(microseconds=value.duration_micros),
    "interval": lambda value: Interval(
        months=value.interval.months, days=value.interval.days, micros=value.interval.micros
    ),
    "uuid": lambda value: UUID(value.uuid),
    "json": lambda value: json.loads(value.json),
    "list": _list,
    "tuple": _tuple,
    "set": _set,
    "record": _record,
    "map": _map,
    "description": _description,
    "array": _array,
    "table": _table,
    "series": _series,
}
