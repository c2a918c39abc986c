"""Cells as they cross the channel: typed one by one, or a column of one plain type as a whole."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from sandboxd.channel import values
from sandboxd.channel.values import Column, Value
from sandboxd.database.worker.parameters import Interval, JsonText, json_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = range(-(2**63), 2**63)
_NULL = values.NullValue()


def _integer(value: int) -> Value:
    return values.IntValue(value) if value in _INT64 else values.BigIntValue(str(value))


def _datetime(value: datetime) -> Value:
    if value.tzinfo is None:
        return values.LocalDatetimeValue(value.isoformat())
    since = value - _EPOCH
    offset = 0 if value.tzinfo is UTC else (value.utcoffset() or timedelta()) // timedelta(seconds=1)
    return values.TimestampValue(since.days * 86400 + since.seconds, since.microseconds * 1000, offset)


def _items(value: Sequence[Any]) -> Value:
    return values.ListValue([typed(item) for item in value], len(value))


_TYPED: dict[type, Callable[[Any], Value]] = {
    type(None): lambda _: _NULL,
    bool: values.BoolValue,
    int: _integer,
    float: values.FloatValue,
    JsonText: lambda value: values.JsonValue(str(value)),
    str: lambda value: values.TextValue(value, len(value)),
    bytes: lambda value: values.BytesValue(value, len(value)),
    Decimal: lambda value: values.DecimalValue(str(value)),
    datetime: _datetime,
    date: lambda value: values.DateValue(value.isoformat()),
    time: lambda value: values.TimeValue(value.isoformat()),
    timedelta: lambda value: values.DurationValue(value // timedelta(microseconds=1)),
    UUID: lambda value: values.UuidValue(str(value)),
    Interval: lambda value: values.IntervalValue(value.months, value.days, value.micros),
    list: _items,
    tuple: _items,
    dict: lambda value: values.JsonValue(json_text(value)),
}


def typed(value: Any) -> Value:
    """A database value as it crosses the channel."""
    return _encoder_of(type(value))(value)


def _encoder_of(kind: type) -> Callable[[Any], Value]:
    """How values of a type are encoded; a driver's own types go by what they are derived from."""
    found = _TYPED.get(kind)
    if found is None:
        found = next((_TYPED[base] for base in kind.__mro__ if base in _TYPED), _other)
        _TYPED[kind] = found
    return found


def _other(value: Any) -> Value:
    """Rows, ranges, bit strings, addresses and what else a driver has a class for."""
    if hasattr(value, "items"):
        return values.JsonValue(json_text(dict(value.items())))
    if hasattr(value, "as_string"):
        text = str(value.as_string())
    else:
        text = _range_text(value) if hasattr(value, "lower_inc") else str(value)
    return values.TextValue(text, len(text))


def _range_text(value: Any) -> str:
    """A PostgreSQL range as PostgreSQL writes it."""
    if value.isempty:
        return "empty"
    lower = "" if value.lower is None else str(value.lower)
    upper = "" if value.upper is None else str(value.upper)
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"


_Plain: TypeAlias = Callable[[list[Any], list[int]], Column]
_PLAIN: dict[type, tuple[_Plain, Any]] = {
    int: (values.IntColumn, 0),
    float: (values.FloatColumn, 0.0),
    bool: (values.BoolColumn, False),
    str: (values.TextColumn, ""),
}


def column_of(cells: Sequence[Any]) -> Column:
    """One column, packed when its cells are of one plain type. Engines give no integer beyond 64 bits."""
    kinds = set(map(type, cells))
    nulls: list[int] = []
    if type(None) in kinds and len(kinds) == 2:
        kinds.discard(type(None))
        nulls = [position for position, cell in enumerate(cells) if cell is None]
    kind = kinds.pop() if len(kinds) == 1 else None
    plain = _PLAIN.get(kind) if kind is not None else None
    if plain is None:
        if kind is None or nulls:
            return values.ValueColumn([typed(cell) for cell in cells])
        return values.ValueColumn(list(map(_encoder_of(kind), cells)))
    build, filler = plain
    if not nulls:
        return build(list(cells), nulls)
    filled = list(cells)
    for position in nulls:
        filled[position] = filler
    return build(filled, nulls)


_FIXED_SIZES: dict[type, int] = {
    type(None): 1, bool: 1, int: 8, float: 8, Decimal: 16, datetime: 12, date: 8, time: 8, UUID: 16,
    timedelta: 8, Interval: 16,
}  # fmt: skip


def size_of(cells: Sequence[Any], kinds: set[type]) -> int:
    """About how many bytes the cells of a column take, which are of `kinds`."""
    if len(kinds) == 1:
        (kind,) = kinds
        return _size_of_kind(kind, cells)
    return sum(_size_of_kind(kind, [cell for cell in cells if type(cell) is kind]) for kind in kinds)


def _size_of_kind(kind: type, cells: Sequence[Any]) -> int:
    fixed = 16 if issubclass(kind, UUID) else _FIXED_SIZES.get(kind)
    if fixed is not None:
        return fixed * len(cells)
    if issubclass(kind, str | bytes):
        return sum(map(len, cells))
    return sum(len(str(cell)) for cell in cells)
