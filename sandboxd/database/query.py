"""What goes into the gateway and what comes out of it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from sandboxd.channel.query import ResultColumn
from sandboxd.channel.values import Value
from sandboxd.database.audit import Origin
from sandboxd.database.grants import DatabaseGrant, QueryLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """On whose behalf a query runs."""

    principal: str
    user_id: str
    sandbox_id: str
    execution_id: str = ""
    """The execution whose code asked; empty over gRPC."""
    line: int = 0
    origin: Origin = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    """One statement for one granted database."""

    asker: Asker
    grant: DatabaseGrant
    limits: QueryLimits
    """At most those of the grant."""
    sql: str
    named: tuple[tuple[str, Value], ...] = ()
    positional: tuple[Value, ...] = ()
    chunk_bytes: int = 512 * 1024
    """Size after which rows are passed on; 0 gives them all at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryStarted:
    """The statement runs; comes before any row."""

    query_id: str
    database: str
    columns: tuple[ResultColumn, ...]
    fingerprint: str
    bridged_sql: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRows:
    """Some rows, column by column: msgpack of `list[sandboxd.channel.packed.ResultCells]`, packed columns
    only where `chunk_bytes` is 0."""

    rows: int
    data: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryEnded:
    """The last event of a statement that ran."""

    rows: int
    size_bytes: int
    truncated_by: Literal["", "rows", "bytes"] = ""
    affected: int = 0
    engine_us: int = 0
    queue_us: int = 0
    warnings: tuple[str, ...] = ()


QueryEvent: TypeAlias = QueryStarted | QueryRows | QueryEnded
