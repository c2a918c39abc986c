"""One statement on one worker: what the worker says becomes events, errors and the audit record."""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from sandboxd.channel.query import ResultColumn
from sandboxd.database import protocol
from sandboxd.database.audit import (
    MAX_RECORDED_SQL,
    AuditFailed,
    AuditSink,
    QueryRecord,
    Verdict,
    recorded_parameters,
)
from sandboxd.database.errors import (
    BY_REASON,
    DatabaseUnavailable,
    QueryCancelled,
    QueryError,
    QueryTimeLimit,
    SqlTooComplex,
)
from sandboxd.database.query import QueryEnded, QueryEvent, QueryRequest, QueryRows, QueryStarted
from sandboxd.database.settings import DatabaseSettings
from sandboxd.database.worker_process import WorkerDied, WorkerProcess

_MOST_PREPARING_SECONDS, _LEAST_PREPARING_SECONDS = 12.0, 3.0
"""For connecting and parsing; between these it is the time of the query. Parsing has a bound of its own that
is tighter, but in CPU time."""
_GRACE_SECONDS = {"sqlite": 0.2, "postgresql": 0.6}
"""Time beyond the limit after which a worker is killed: its own clock has failed by then."""
_CANCEL_SECONDS = 0.5
_BEFORE_THE_ENGINE = frozenset({"text", "binder", "bridge", "guard", "parameters", "gateway"})


class QueryRun:
    """The life of one query. Its record is true at any time."""

    def __init__(
        self,
        *,
        query_id: str,
        request: QueryRequest,
        settings: DatabaseSettings,
        time: datetime,
        audit: AuditSink,
    ) -> None:
        self.id = query_id
        self.queue_us = 0
        self._request = request
        self._settings = settings
        self._audit = audit
        self._header: list[ResultColumn] | None = None
        self._judged: protocol.Judged | None = None
        self._committing = False
        self._known: dict[str, Any] = {}
        """Fields of the record that were learnt since: one copy of it at the end is enough."""
        asker = request.asker
        self._record = QueryRecord(
            id=query_id,
            time=time,
            principal=asker.principal,
            user_id=asker.user_id,
            sandbox_id=asker.sandbox_id,
            execution_id=asker.execution_id,
            line=asker.line,
            origin=asker.origin,
            database=settings.name,
            sql=request.sql[:MAX_RECORDED_SQL],
            sql_truncated=len(request.sql) > MAX_RECORDED_SQL,
            parameters=recorded_parameters(
                request.named, request.positional, keep_values=settings.record_values
            ),
            verdict=Verdict.STARTED,
        )

    def started(self) -> QueryRecord:
        """The record before the end is known."""
        return self._record

    def record(self) -> QueryRecord:
        """The record as it stands."""
        return replace(self._record, queue_us=self.queue_us, **self._known)

    async def events(self, worker: WorkerProcess) -> AsyncGenerator[QueryEvent, None]:
        """Runs the statement on `worker`, which is killed when it does not end in time."""
        self._known["worker_pid"] = worker.pid
        limit = self._request.limits.timeout.total_seconds()
        grace = _GRACE_SECONDS[self._settings.engine]
        preparing = min(max(limit + grace, _LEAST_PREPARING_SECONDS), _MOST_PREPARING_SECONDS)
        disarm = worker.kill_after(preparing)
        finished = False
        try:
            await worker.send(self._order())
            while not finished:
                reply = await worker.receive()
                if isinstance(reply, protocol.Judged):
                    disarm()
                    disarm = worker.kill_after(limit + grace)
                finished = isinstance(reply, protocol.StatementDone | protocol.StatementRefused)
                async for event in self._events_of(reply, worker):
                    yield event
        except WorkerDied as death:
            finished = True
            raise self._death(death) from None
        finally:
            disarm()
            if not finished:
                await asyncio.shield(self._stop(worker))

    def failed_with(self, error: BaseException) -> None:
        """Completes the record of a query that has no result."""
        if self._known.get("verdict") is Verdict.COMPLETED:
            return
        if isinstance(error, QueryError) and not isinstance(error, QueryCancelled):
            early = error.layer in _BEFORE_THE_ENGINE and not self._committing
            verdict = Verdict.REFUSED if early else Verdict.FAILED
            if self._committing:
                verdict = Verdict.STARTED  # nobody knows whether it was committed
            self._known.update(
                verdict=verdict,
                reason=error.reason,
                layer=error.layer,
                message=error.problem[:1000],
                sqlstate=error.detail.get("sqlstate", ""),
            )
            return
        verdict = Verdict.STARTED if self._committing else Verdict.CANCELLED
        self._known.update(verdict=verdict, reason=QueryCancelled.reason, layer="gateway")

    def _order(self) -> protocol.RunStatement:
        request = self._request
        return protocol.RunStatement(
            request_id=1,
            database=self._settings.name,
            sql=request.sql,
            named=list(request.named),
            positional=list(request.positional),
            tables=list(request.grant.tables),
            writes=list(request.grant.writes),
            max_affected_rows=request.grant.max_affected_rows,
            max_rows=request.limits.max_rows,
            max_bytes=request.limits.max_bytes,
            timeout_ms=max(1, int(request.limits.timeout.total_seconds() * 1000)),
            chunk_bytes=request.chunk_bytes,
        )

    async def _events_of(
        self, reply: protocol.WorkerReply, worker: WorkerProcess
    ) -> AsyncIterator[QueryEvent]:
        match reply:
            case protocol.Judged():
                self._take_verdict(reply)
            case protocol.ResultHeader(columns=columns):
                self._header = columns
                yield self._started_event(columns)
            case protocol.ResultChunk(rows=rows, data=data):
                yield QueryRows(rows=rows, data=data)
            case protocol.CommitPending(affected=affected):
                await self._decide(worker, affected)
            case protocol.StatementDone():
                self._complete(reply)
                if self._header is None:
                    yield self._started_event([])
                yield self._ended_event(reply)
            case protocol.StatementRefused():
                raise self._refusal(reply)
            case _:
                worker.kill()

    def _take_verdict(self, judged: protocol.Judged) -> None:
        self._judged = judged
        self._known.update(
            kind=judged.kind,
            tables=tuple(judged.tables),
            functions=tuple(judged.functions),
            written_columns=tuple(judged.written_columns),
            fingerprint=judged.fingerprint,
            bridged_sql=judged.final_sql,
            check_us=judged.parse_us,
        )

    async def _decide(self, worker: WorkerProcess, affected: int) -> None:
        """The record of a write is on disk before the write is."""
        self._known["affected"] = affected
        commit = True
        try:
            await self._audit.record(self.record())
        except AuditFailed:
            commit = False
        self._committing = commit
        await worker.send(protocol.Decide(request_id=1, commit=commit))

    def _complete(self, done: protocol.StatementDone) -> None:
        self._committing = False
        self._known.update(
            verdict=Verdict.COMPLETED,
            rows=done.rows,
            size_bytes=done.size_bytes,
            affected=done.affected,
            truncated_by=done.truncated_by,
            engine_us=done.engine_us,
        )

    def _started_event(self, columns: list[ResultColumn]) -> QueryStarted:
        return QueryStarted(
            query_id=self.id,
            database=self._settings.name,
            columns=tuple(columns),
            fingerprint=self._known.get("fingerprint", ""),
            bridged_sql=self._known.get("bridged_sql", ""),
        )

    def _ended_event(self, done: protocol.StatementDone) -> QueryEnded:
        names = [column.name for column in self._header or []]
        repeated = sorted({name for name in names if names.count(name) > 1})
        warnings = list(done.warnings)
        if repeated:
            warnings.append(f"repeated column names: {', '.join(repeated)}; rows have them with _2, _3 ...")
        return QueryEnded(
            rows=done.rows,
            size_bytes=done.size_bytes,
            truncated_by=done.truncated_by,
            affected=done.affected,
            engine_us=done.engine_us,
            queue_us=self.queue_us,
            warnings=tuple(warnings),
        )

    def _refusal(self, refused: protocol.StatementRefused) -> QueryError:
        self._committing = False
        self._known.update(
            fingerprint=refused.fingerprint or self._known.get("fingerprint", ""),
            check_us=refused.parse_us,
            engine_us=refused.engine_us,
        )
        return error_of(refused, query_id=self.id)

    def _death(self, death: WorkerDied) -> QueryError:
        if death.parsed_too_long:
            problem = "the statement takes too long to parse"
            return SqlTooComplex(problem=problem, layer="text", query_id=self.id)
        if self._committing:
            problem = "the worker ended while it committed; look before you try again"
            return DatabaseUnavailable(problem=problem, layer="gateway", query_id=self.id)
        if death.status == -signal.SIGKILL:
            problem = "the statement ran longer than its time limit and was killed"
            if self._judged is None:
                problem = "the statement was not parsed, or its database not reached, in time"
            return QueryTimeLimit(problem=problem, layer="limit", query_id=self.id)
        problem = "the database worker ended; nothing was changed"
        return DatabaseUnavailable(problem=problem, layer="gateway", query_id=self.id)

    async def _stop(self, worker: WorkerProcess) -> None:
        """Asks the worker to end the statement, and kills it when it does not."""
        disarm = worker.kill_after(_CANCEL_SECONDS)
        try:
            await worker.send(protocol.Cancel(request_id=1))
            while True:
                reply = await worker.receive()
                if isinstance(reply, protocol.StatementDone):
                    self._complete(reply)
                    return
                if isinstance(reply, protocol.StatementRefused):
                    return
        except WorkerDied:
            return
        finally:
            disarm()


def error_of(refused: protocol.StatementRefused, *, query_id: str = "") -> QueryError:
    """A worker's refusal as an error of the host."""
    cls = BY_REASON.get(refused.reason, QueryError)
    return cls(
        problem=refused.problem,
        hint=refused.hint,
        layer=refused.layer,
        query_id=query_id,
        detail={name: value for name, value in refused.detail.items() if value},
    )
