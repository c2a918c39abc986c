"""Runs judged statements on PostgreSQL: extended protocol, a transaction that ends in ROLLBACK."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncpg
from asyncpg import Connection
from asyncpg.prepared_stmt import PreparedStatement

from sandboxd.channel.query import ResultColumn
from sandboxd.channel.values import Value
from sandboxd.database.protocol import DatabaseSpec, RunStatement
from sandboxd.database.schema import Table
from sandboxd.database.worker.allowed import FunctionPolicy, postgres_functions
from sandboxd.database.worker.parameters import Interval, JsonText, unpack
from sandboxd.database.worker.planner import Plan
from sandboxd.database.worker.postgres_errors import CONNECTION_FAULTS, refusal_of
from sandboxd.database.worker.postgres_parameters import for_postgres
from sandboxd.database.worker.postgres_role import check_role
from sandboxd.database.worker.postgres_schema import read_functions, read_row_types, read_tables
from sandboxd.database.worker.refusal import Layer, Reason, Refusal
from sandboxd.database.worker.results import RowCollector, Sink

_CONNECT_TIMEOUT = 5.0
_CATALOG_TIMEOUT = 10.0
_FUNCTIONS_KEPT_SECONDS = 59.0
"""They are thousands and change with the server's software. Shorter than the life of a whole catalogue."""
_GRACE = 0.2
"""Seconds a statement may overrun before its connection is dropped: PostgreSQL stops most by itself."""
_BATCH_BYTES = 1_000_000
_BATCH_ROWS = 1000
_SESSION = {
    "application_name": "sandboxd",
    "timezone": "UTC",
    "default_transaction_read_only": "on",
    "standard_conforming_strings": "on",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "jit": "off",
    "statement_timeout": "15000",  # of the catalogue's queries; each statement sets its own
}
# ROLLBACK undoes what SQL may undo; session locks, LISTEN and prepared statements outlive it.
_SCRUB = (
    "ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all(); UNLISTEN *; CLOSE ALL; DEALLOCATE ALL; RESET ALL; "
    "DISCARD SEQUENCES"
)


_Result = TypeVar("_Result")


class PostgresCatalog(NamedTuple):
    """What the role may read and call, as of one moment."""

    tables: dict[str, Table]
    functions: FunctionPolicy
    row_types: frozenset[str]
    read_at: float


class PostgresDatabase:
    """One connection to one server; used by one statement at a time."""

    def __init__(self, spec: DatabaseSpec) -> None:
        self._spec = spec
        self.schemas = list(spec.schemas) or ["public"]
        self._connection: Connection[Any] | None = None
        self.warnings: list[str] = []
        self._unsettled = False
        self._functions: FunctionPolicy | None = None
        self._functions_read_at = 0.0

    async def server_version(self) -> str:
        """The server's version; connects."""
        connection = await self._connect()
        version = connection.get_server_version()
        return f"PostgreSQL {version.major}.{version.micro}"

    async def catalog(self) -> PostgresCatalog:
        """Reads the catalogue anew; of its functions, what it said within the last minute holds."""
        return await self._with_connection(self._read_catalog)

    async def _read_catalog(self, connection: Connection[Any]) -> PostgresCatalog:
        tables = await read_tables(connection, self.schemas, self._spec.tables)
        now = time.monotonic()
        if self._functions is None or now - self._functions_read_at >= _FUNCTIONS_KEPT_SECONDS:
            self._functions = postgres_functions(await read_functions(connection), self._spec.functions)
            self._functions_read_at = now
        return PostgresCatalog(tables, self._functions, await read_row_types(connection), now)

    async def _with_connection(self, action: Callable[[Connection[Any]], Awaitable[_Result]]) -> _Result:
        """Does `action`; on a connection that the server or a firewall has closed, once more on a new one."""
        for is_last in (False, True):
            connection = await self._connect()
            try:
                async with asyncio.timeout(_CATALOG_TIMEOUT):
                    return await action(connection)
            except CONNECTION_FAULTS as error:
                await self._drop()
                if is_last:
                    raise refusal_of(error) from None
        raise AssertionError  # the loop returns or raises

    async def run(
        self, plan: Plan, given: Sequence[tuple[str, Value]], request: RunStatement, sink: Sink
    ) -> Any:
        """Runs one statement; gives the collector and the count of changed rows. Raises `Refusal`."""
        await self.settle()
        deadline = time.monotonic() + request.timeout_ms / 1000
        connection = await self._begin(plan, request)
        healthy = False
        try:
            async with asyncio.timeout(request.timeout_ms / 1000 + _GRACE):
                result = await self._run(connection, plan, given, request, sink)
            healthy = True
        except TimeoutError:
            raise _time_limit() from None
        except asyncio.CancelledError:
            raise Refusal(Reason.CANCELLED, Layer.LIMIT, "the statement was cancelled") from None
        except (*CONNECTION_FAULTS, OverflowError, ValueError) as error:
            healthy = isinstance(error, asyncpg.PostgresError)
            if isinstance(error, asyncpg.QueryCanceledError) and time.monotonic() >= deadline - 0.02:
                raise _time_limit() from None
            raise refusal_of(error) from None
        except Refusal:
            healthy = True
            raise
        finally:
            self._unsettled = healthy
            if not healthy:
                await self._leave(connection, healthy=False)
        return result

    async def settle(self) -> None:
        """Ends the transaction of the last statement and scrubs the session; nobody waits for it."""
        if self._unsettled and self._connection is not None:
            self._unsettled = False
            await self._leave(self._connection, healthy=True)

    async def _begin(self, plan: Plan, request: RunStatement) -> Connection[Any]:
        """A connection in a transaction."""
        mode = "READ WRITE" if plan.write else "READ ONLY"
        milliseconds = max(1, request.timeout_ms)
        # The query makes the mode final: after it, SET TRANSACTION READ WRITE is an error.
        opening = (
            f"BEGIN {mode}; SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = "
            f"{min(milliseconds, 2000)}; SET LOCAL idle_in_transaction_session_timeout = "
            f"{milliseconds + 10_000}; SELECT 1"
        )

        async def begin(connection: Connection[Any]) -> Connection[Any]:
            await connection.execute(opening)
            return connection

        return await self._with_connection(begin)

    async def _run(
        self,
        connection: Connection[Any],
        plan: Plan,
        given: Sequence[tuple[str, Value]],
        request: RunStatement,
        sink: Sink,
    ) -> tuple[RowCollector, int]:
        statement = await connection.prepare(plan.text)
        wanted = [kind.name for kind in statement.get_parameters()]
        arguments = [
            for_postgres(name, unpack(name, value), kind)
            for (name, value), kind in zip(given, wanted, strict=True)
        ]
        collector = RowCollector(
            sink, max_rows=request.max_rows, max_bytes=request.max_bytes, chunk_bytes=request.chunk_bytes
        )
        if plan.write:
            return collector, await _write(connection, statement, arguments, collector, request, sink)
        await _read(statement, arguments, collector)
        return collector, 0

    async def _connect(self) -> Connection[Any]:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        settings = _SESSION | {"search_path": ", ".join(map(_quoted, self.schemas))}
        try:
            connection = await asyncpg.connect(
                self._spec.url, timeout=_CONNECT_TIMEOUT, statement_cache_size=0, server_settings=settings
            )
        except (*CONNECTION_FAULTS, ValueError) as error:
            raise Refusal(
                Reason.UNAVAILABLE, Layer.ENGINE, "the database cannot be reached just now"
            ) from error
        try:
            self.warnings = await check_role(
                connection, self.schemas, allow_unsafe=self._spec.allow_unsafe_role
            )
            await _set_codecs(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    async def _leave(self, connection: Connection[Any], *, healthy: bool) -> None:
        """Ends the transaction and scrubs the session; a connection that does not answer is dropped."""
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT if healthy else _GRACE):
                await connection.execute(_SCRUB)
        except CONNECTION_FAULTS:
            await self._drop()

    async def close(self) -> None:
        """Drops the connection."""
        await self._drop()

    async def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def _read(statement: PreparedStatement[Any], arguments: list[Any], collector: RowCollector) -> None:
    _send_header(statement, collector)
    cursor = await statement.cursor(*arguments)
    batch = 200
    while rows := await cursor.fetch(min(batch, collector.wanted)):
        asked = min(batch, collector.wanted)
        if not collector.add(rows) or len(rows) < asked:
            break
        average = max(1, collector.size_bytes // max(1, collector.rows))
        batch = max(1, min(_BATCH_ROWS, _BATCH_BYTES // average))
    collector.finish()


async def _write(
    connection: Connection[Any],
    statement: PreparedStatement[Any],
    arguments: list[Any],
    collector: RowCollector,
    request: RunStatement,
    sink: Sink,
) -> int:
    rows = await statement.fetch(*arguments)
    affected = int((statement.get_statusmsg() or "0").rsplit(" ", 1)[-1])
    if affected > request.max_affected_rows:
        problem = f"the statement would change {affected} rows, more than {request.max_affected_rows}"
        raise Refusal(Reason.LIMIT_AFFECTED, Layer.LIMIT, problem + "; nothing was changed")
    if statement.get_attributes():
        _send_header(statement, collector)
        if rows:
            collector.add(rows)
        collector.finish()
    if not sink.confirm(affected):
        problem = "the write could not be recorded; nothing was changed"
        raise Refusal(Reason.NOT_RECORDED, Layer.GATEWAY, problem)
    await connection.execute("COMMIT")
    return affected


def _send_header(statement: PreparedStatement[Any], collector: RowCollector) -> None:
    collector.header(
        [ResultColumn(name=column.name, db_type=column.type.name) for column in statement.get_attributes()]
    )


async def _set_codecs(connection: Connection[Any]) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=str, decoder=JsonText, format="text"
        )
    await connection.set_type_codec(
        "interval", schema="pg_catalog", encoder=tuple, decoder=Interval._make, format="tuple"
    )


def _time_limit() -> Refusal:
    return Refusal(Reason.LIMIT_TIME, Layer.LIMIT, "the statement ran longer than its time limit")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
