"""How tests ask: one call, one table of rows, or the error of the tree."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from sandboxd.channel import values
from sandboxd.channel.packed import CodedTextColumn, NumbersColumn, ResultCells
from sandboxd.channel.values import Value
from sandboxd.database.audit import MemoryAudit
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.grants import DatabaseGrant, Operation, QueryLimits, WriteGrant
from sandboxd.database.query import Asker, QueryEnded, QueryRequest, QueryRows, QueryStarted
from sandboxd.database.worker.parameters import plain
from sandboxd.guest.from_values import column_to_python

CANARY = "CANARY-7f3a-do-not-leak"

UPDATE_PROCESSED = WriteGrant(table="documents", operation=Operation.UPDATE, columns=("processed",))
_columns = msgspec.msgpack.Decoder(list[ResultCells])


@dataclass
class Answer:
    """A result as a test looks at it."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    ended: QueryEnded
    started: QueryStarted
    chunk_rows: list[int] = field(default_factory=list)


@dataclass
class Desk:
    """A gateway to ask."""

    gateway: DatabaseGateway
    audit: MemoryAudit

    async def ask(
        self,
        database: str,
        sql: str,
        *,
        timeout: float = 5.0,
        max_rows: int = 1000,
        max_bytes: int = 8 << 20,
        writes: tuple[WriteGrant, ...] = (),
        max_affected_rows: int = 100,
        tables: tuple[str, ...] = (),
        chunk_bytes: int = 512 * 1024,
        sandbox: str = "sbx_test",
        positional: tuple[Any, ...] = (),
        **parameters: Any,
    ) -> Answer:
        limits = QueryLimits(max_rows=max_rows, max_bytes=max_bytes, timeout=timedelta(seconds=timeout))
        grant = DatabaseGrant(
            database=database,
            tables=tables,
            writes=writes,
            max_affected_rows=max_affected_rows,
            limits=limits,
        )
        request = QueryRequest(
            asker=Asker(principal="tester", user_id="u1", sandbox_id=sandbox),
            grant=grant,
            limits=limits,
            sql=sql,
            named=tuple((name, value_of(value)) for name, value in parameters.items()),
            positional=tuple(value_of(value) for value in positional),
            chunk_bytes=chunk_bytes,
        )
        events = [event async for event in self.gateway.query(request)]
        started, ended = events[0], events[-1]
        assert isinstance(started, QueryStarted)
        assert isinstance(ended, QueryEnded)
        chunks = [event for event in events if isinstance(event, QueryRows)]
        rows = [row for chunk in chunks for row in rows_of(chunk)]
        return Answer(
            [column.name for column in started.columns],
            rows,
            ended,
            started,
            [chunk.rows for chunk in chunks],
        )


def rows_of(chunk: QueryRows) -> list[tuple[Any, ...]]:
    columns = [cells_of(column) for column in _columns.decode(chunk.data)]
    return list(zip(*columns, strict=True))


def cells_of(column: ResultCells) -> list[Any]:
    if isinstance(column, NumbersColumn | CodedTextColumn):
        return column_to_python(column)
    if isinstance(column, values.ValueColumn):
        return [plain(value) for value in column.values]
    cells: list[Any] = list(column.values)
    for position in column.nulls:
        cells[position] = None
    return cells


def value_of(value: Any) -> Value:
    """A parameter as the guest would send it."""
    from sandboxd.database.worker.encoding import typed

    if isinstance(value, dict):
        fields = [(name, value_of(item)) for name, item in value.items()]
        return values.RecordValue(fields, len(fields))
    return typed(value)
