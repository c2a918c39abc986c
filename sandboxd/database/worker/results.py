"""Rows become columns: bounded in rows and bytes, sent in chunks or as one."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Literal, Protocol

import msgspec

from sandboxd.channel.packed import ResultCells
from sandboxd.channel.query import ResultColumn
from sandboxd.database.worker.encoding import column_of, size_of
from sandboxd.database.worker.packing import ColumnPacker

_SLICE_ROWS = 250
"""Rows that are turned into columns at once: with more, cells leave the processor's cache in between."""
_encoder = msgspec.msgpack.Encoder()


class Sink(Protocol):
    """Where a result goes. `confirm` is asked before a write is committed."""

    def header(self, columns: list[ResultColumn]) -> None: ...

    def chunk(self, rows: int, data: msgspec.Raw) -> None: ...

    def confirm(self, affected: int) -> bool: ...


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
        self._packers: list[ColumnPacker] = []
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
        self._packers = [ColumnPacker() for _ in columns]
        self._sink.header(columns)

    def add(self, rows: Sequence[Sequence[Any]]) -> bool:
        """Takes a batch; False when a cap is reached and no more is wanted."""
        if self.rows + len(rows) > self._max_rows:
            rows = rows[: self._max_rows - self.rows]
            self.truncated_by = "rows"
        for start in range(0, len(rows), _SLICE_ROWS):
            self._within_bytes(rows[start : start + _SLICE_ROWS])
            if self.truncated_by == "bytes":
                break
        return not self.truncated_by

    def _within_bytes(self, rows: Sequence[Sequence[Any]]) -> None:
        columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True))
        kinds = [set(map(type, column)) for column in columns]
        size = sum(map(size_of, columns, kinds))
        if self.size_bytes + size > self._max_bytes:
            rows, size = self._head(rows)
            columns = list(zip(*rows, strict=True)) or [()] * len(self._pending)
            kinds = [set(map(type, column)) for column in columns]
            self.truncated_by = "bytes"
        self._keep(columns, kinds)
        self.rows += len(rows)
        self.size_bytes += size
        self._pending_rows += len(rows)
        self._pending_bytes += size
        if self._chunk_bytes and self._pending_bytes >= self._chunk_bytes:
            self._send()

    def _keep(self, columns: Sequence[Sequence[Any]], kinds: Sequence[set[type]]) -> None:
        if self._chunk_bytes:
            for pending, column in zip(self._pending, columns, strict=True):
                pending.extend(column)
        else:
            for packer, column, found in zip(self._packers, columns, kinds, strict=True):
                packer.add(column, found)

    def _head(self, rows: Sequence[Sequence[Any]]) -> tuple[Sequence[Sequence[Any]], int]:
        """The first rows that fit into the bytes left."""
        size = 0
        for count, row in enumerate(rows):
            more = sum(size_of((cell,), {type(cell)}) for cell in row)
            if self.size_bytes + size + more > self._max_bytes:
                return rows[:count], size
            size += more
        return rows, size

    def finish(self) -> None:
        """Sends what is left; without chunks, all of it, an empty result too."""
        if self._chunk_bytes and self._pending_rows:
            self._send()
        elif not self._chunk_bytes and self._packers:
            self._emit([packer.column() for packer in self._packers], self.rows)

    def _send(self) -> None:
        for part, count in self._parts():
            self._emit(list(map(column_of, part)), count)
        self._pending = [[] for _ in self._pending]
        self._pending_rows = self._pending_bytes = 0

    def _parts(self) -> Iterable[tuple[list[list[Any]], int]]:
        """The pending rows in parts of about the chunk size."""
        count = max(1, self._pending_bytes // self._chunk_bytes)
        step = max(1, -(-self._pending_rows // count))
        for start in range(0, self._pending_rows, step):
            part = list(map(itemgetter(slice(start, start + step)), self._pending))
            yield part, len(part[0])

    def _emit(self, columns: Sequence[ResultCells], rows: int) -> None:
        self._sink.chunk(rows, msgspec.Raw(_encoder.encode(columns)))
