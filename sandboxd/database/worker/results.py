"""Rows become columns: typed, bounded in rows and bytes, sent in chunks or as one."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any, Literal, Protocol, TypeAlias
from uuid import UUID

import msgspec

from sandboxd.channel import values
from sandboxd.channel.query import ResultColumn
from sandboxd.channel.values import Column, Value
from sandboxd.database.worker.parameters import Interval, JsonText, json_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = range(-(2**63), 2**63)
_NULL = values.NullValue()
_encoder = msgspec.msgpack.Encoder()


class Sink(Protocol):
    """Where a result goes. `confirm` is asked before a write is committed."""

    def header(self, columns: list[ResultColumn]) -> None: ...

    def chunk(self, rows: int, data: msgspec.Raw) -> None: ...

    def confirm(self, affected: int) -> bool: ...


def typed(value: Any) -> Value:  # noqa: C901, PLR0912  # one line a type
    """A database value as it crosses the channel."""
    match value:
        case None:
            return _NULL
        case bool():
            return values.BoolValue(value)
        case int():
            return values.IntValue(value) if value in _INT64 else values.BigIntValue(str(value))
        case float():
            return values.FloatValue(value)
        case JsonText():
            return values.JsonValue(str(value))
        case str():
            return values.TextValue(value, len(value))
        case bytes():
            return values.BytesValue(value, len(value))
        case Decimal():
            return values.DecimalValue(str(value))
        case datetime():
            return _typed_datetime(value)
        case date():
            return values.DateValue(value.isoformat())
        case time():
            return values.TimeValue(value.isoformat())
        case timedelta():
            return values.DurationValue(value // timedelta(microseconds=1))
        case UUID():
            return values.UuidValue(str(value))
        case Interval():
            return values.IntervalValue(value.months, value.days, value.micros)
        case list() | tuple():
            return values.ListValue([typed(item) for item in value], len(value))
        case dict():
            return values.JsonValue(json_text(value))
        case _:
            text = _range_text(value) if hasattr(value, "lower_inc") else str(value)
            return values.TextValue(text, len(text))


def _range_text(value: Any) -> str:
    """A PostgreSQL range as PostgreSQL writes it."""
    if value.isempty:
        return "empty"
    lower = "" if value.lower is None else str(value.lower)
    upper = "" if value.upper is None else str(value.upper)
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"


def _typed_datetime(value: datetime) -> Value:
    if value.tzinfo is None:
        return values.LocalDatetimeValue(value.isoformat())
    since = value - _EPOCH
    offset = value.utcoffset() or timedelta()
    return values.TimestampValue(
        since.days * 86400 + since.seconds, since.microseconds * 1000, offset // timedelta(seconds=1)
    )


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
        return values.ValueColumn([typed(cell) for cell in cells])
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


def size_of(cells: Sequence[Any]) -> int:
    """About how many bytes the cells of a column take."""
    kinds = set(map(type, cells))
    if len(kinds) == 1:
        return _size_of_kind(kinds.pop(), cells)
    return sum(_size_of_kind(kind, [cell for cell in cells if type(cell) is kind]) for kind in kinds)


def _size_of_kind(kind: type, cells: Sequence[Any]) -> int:
    fixed = 16 if issubclass(kind, UUID) else _FIXED_SIZES.get(kind)
    if fixed is not None:
        return fixed * len(cells)
    if issubclass(kind, str | bytes):
        return sum(map(len, cells))
    return sum(len(str(cell)) for cell in cells)


class RowCollector:
    """Takes batches of rows until a cap is reached, and sends them on.

    Engines fetch one row more than the cap, so that `truncated_by` is known and not guessed.
    """

    def __init__(self, sink: Sink, *, max_rows: int, max_bytes: int, chunk_bytes: int) -> None:
        self._sink = sink
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._chunk_bytes = chunk_bytes
        self._pending: list[list[Any]] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self.rows = 0
        self.size_bytes = 0
        self.truncated_by: Literal["", "rows", "bytes"] = ""

    @property
    def wanted(self) -> int:
        """How many rows are still of use: those up to the cap and one more."""
        return self._max_rows + 1 - self.rows

    def header(self, columns: list[ResultColumn]) -> None:
        """Sends the columns; comes before any row."""
        self._pending = [[] for _ in columns]
        self._sink.header(columns)

    def add(self, rows: Sequence[Sequence[Any]]) -> bool:
        """Takes a batch; False when a cap is reached and no more is wanted."""
        if self.rows + len(rows) > self._max_rows:
            rows = rows[: self._max_rows - self.rows]
            self.truncated_by = "rows"
        if rows:
            rows = self._within_bytes(rows)
        return not self.truncated_by

    def _within_bytes(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        columns = list(zip(*rows, strict=True))
        size = sum(size_of(column) for column in columns)
        if self.size_bytes + size > self._max_bytes:
            rows, size = self._head(rows)
            columns = list(zip(*rows, strict=True))
            self.truncated_by = "bytes"
        for pending, column in zip(self._pending, columns or [()] * len(self._pending), strict=True):
            pending.extend(column)
        self.rows += len(rows)
        self.size_bytes += size
        self._pending_rows += len(rows)
        self._pending_bytes += size
        if self._chunk_bytes and self._pending_bytes >= self._chunk_bytes:
            self._send()
        return rows

    def _head(self, rows: Sequence[Sequence[Any]]) -> tuple[Sequence[Sequence[Any]], int]:
        """The first rows that fit into the bytes left."""
        size = 0
        for count, row in enumerate(rows):
            more = sum(size_of((cell,)) for cell in row)
            if self.size_bytes + size + more > self._max_bytes:
                return rows[:count], size
            size += more
        return rows, size

    def finish(self) -> None:
        """Sends what is left; without chunks, all of it, an empty result too."""
        if self._pending and (self._pending_rows or not self._chunk_bytes):
            self._send()

    def _send(self) -> None:
        if not self._chunk_bytes or len(self._pending[0]) == 0:
            self._emit(self._pending, self._pending_rows)
        else:
            for part, count in self._parts():
                self._emit(part, count)
        self._pending = [[] for _ in self._pending]
        self._pending_rows = self._pending_bytes = 0

    def _parts(self) -> Iterable[tuple[list[list[Any]], int]]:
        """The pending rows in parts of about the chunk size."""
        count = max(1, self._pending_bytes // self._chunk_bytes)
        step = max(1, -(-self._pending_rows // count))
        for start in range(0, self._pending_rows, step):
            part = list(map(itemgetter(slice(start, start + step)), self._pending))
            yield part, len(part[0])

    def _emit(self, columns: list[list[Any]], rows: int) -> None:
        data = _encoder.encode([column_of(column) for column in columns])
        self._sink.chunk(rows, msgspec.Raw(data))
