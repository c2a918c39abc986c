"""The only door to the databases, for gRPC and for user code alike: grants, turns, workers, audit."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import structlog

from sandboxd.database.audit import (
    MAX_RECORDED_SQL,
    AuditFailed,
    AuditSink,
    QueryRecord,
    Verdict,
    text_digest,
)
from sandboxd.database.errors import DatabaseNotFound, QueryNotRecorded, SqlTooComplex
from sandboxd.database.protocol import OpenDatabases
from sandboxd.database.query import Asker, QueryEvent, QueryRequest
from sandboxd.database.query_run import QueryRun
from sandboxd.database.schema_cache import SchemaCache
from sandboxd.database.settings import DatabaseSettings
from sandboxd.database.turns import Turns
from sandboxd.database.worker_pool import WorkerPool
from sandboxd.errors import SandboxdError
from sandboxd.ids import new_query_id, shown

_log = structlog.get_logger(__name__)

_WORKER_MEMORY_BYTES = 512 * 1024 * 1024
_MAX_SQL_CHARACTERS = 64 * 1024
"""Longer text is refused before a worker is asked for."""


class DatabaseGateway:
    """Runs queries. `async with` starts and ends its workers."""

    def __init__(
        self,
        databases: tuple[DatabaseSettings, ...],
        *,
        audit: AuditSink,
        max_workers: int = 4,
        worker_memory_bytes: int = _WORKER_MEMORY_BYTES,
        guarded: bool = True,
    ) -> None:
        """`guarded` False leaves the guard out, to see what the engines stop alone; only tests do."""
        self.databases = {database.name: database for database in databases}
        self._audit = audit
        opened = OpenDatabases(
            databases=[database.spec() for database in databases],
            memory_bytes=worker_memory_bytes,
            guard=guarded,
        )
        self._pool = WorkerPool(opened, max_workers=max_workers)
        self._turns = Turns()
        self.schemas = SchemaCache(self._pool)
        self._records: set[asyncio.Task[None]] = set()
        self._audit_works = True

    async def __aenter__(self) -> Self:
        if self.databases:
            await self._pool.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.recorded()
        await self._pool.close()

    async def recorded(self) -> None:
        """Waits until the records of all queries that have ended are written, 5 s at most."""
        if self._records:
            await asyncio.wait(list(self._records), timeout=5)

    @property
    def worker_pids(self) -> list[int]:
        """The living workers."""
        return self._pool.pids

    async def check(self, name: str) -> tuple[str, list[str]]:
        """The engine's version, and what its hardening script would still improve; raises `QueryError`."""
        return await self.schemas.check(name)

    async def query(self, request: QueryRequest) -> AsyncGenerator[QueryEvent, None]:
        """Runs one statement: one `QueryStarted`, any number of `QueryRows`, one `QueryEnded`.

        Close the iterator to stop the statement; a write that is not committed yet is rolled back.
        Raises a `QueryError`. Every attempt leaves a record.
        """
        settings = self.databases.get(request.grant.database)
        if settings is None:
            raise DatabaseNotFound(id=request.grant.database)
        run = QueryRun(
            query_id=new_query_id(),
            request=request,
            settings=settings,
            time=datetime.now(UTC),
            audit=self._audit,
        )
        if not self._audit_works and settings.refuse_unrecorded_reads:
            await self._probe_audit(run)
        queued = time.perf_counter()
        try:
            _check_size(request.sql, run.id)
            async with self._turns.of(request.asker.sandbox_id), self._pool.lease() as worker:
                run.queue_us = int((time.perf_counter() - queued) * 1e6)
                async with aclosing(run.events(worker)) as events:
                    async for event in events:
                        yield event
        except BaseException as error:
            run.failed_with(error)
            raise
        finally:
            self._write_down(run.record(), request.sql)

    def note_refusal(
        self, asker: Asker, *, database: str, sql: str, error: SandboxdError, layer: str = "grant"
    ) -> None:
        """Records an attempt that never became a query: its database is not granted, or it is no request."""
        self._write_down(
            QueryRecord(
                id=new_query_id(),
                time=datetime.now(UTC),
                principal=asker.principal,
                user_id=asker.user_id,
                sandbox_id=asker.sandbox_id,
                execution_id=asker.execution_id,
                line=asker.line,
                origin=asker.origin,
                database=database[:200],
                sql=sql[:MAX_RECORDED_SQL],
                sql_truncated=len(sql) > MAX_RECORDED_SQL,
                verdict=Verdict.REFUSED,
                layer=layer,
                reason=error.reason,
                message=str(error)[:1000],
            ),
            sql,
        )

    async def _probe_audit(self, run: QueryRun) -> None:
        """After a failure no statement runs before a record of it was written."""
        try:
            await self._audit.record(run.started())
        except AuditFailed:
            problem = "the audit cannot be written, so nothing was run"
            raise QueryNotRecorded(problem=problem, query_id=run.id) from None
        self._audit_works = True

    def _write_down(self, entry: QueryRecord, sql: str) -> None:
        """Off the query's path: the answer does not wait for it."""
        task = asyncio.get_running_loop().create_task(self._record(entry, sql))
        self._records.add(task)
        task.add_done_callback(self._records.discard)

    async def _record(self, entry: QueryRecord, sql: str) -> None:
        if entry.sql_truncated and not entry.fingerprint:
            # Nobody has read the statement: what is kept of it and this tell it from others.
            entry = replace(entry, fingerprint=await asyncio.to_thread(text_digest, sql))
        try:
            await self._audit.record(entry)
        except AuditFailed as error:
            self._audit_works = False
            _log.error("database.audit_failed", query=shown(entry.id), error=str(error))


def _check_size(sql: str, query_id: str) -> None:
    if len(sql) > _MAX_SQL_CHARACTERS:
        problem = f"the statement is longer than {_MAX_SQL_CHARACTERS} characters"
        raise SqlTooComplex(
            problem=problem, hint="pass values as parameters", layer="text", query_id=query_id
        )
