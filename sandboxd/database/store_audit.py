"""Keeps the audit in the server's store."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256

from sandboxd.database.audit import AuditFailed, AuditFilter, QueryRecord, RecordedParameter, Verdict
from sandboxd.store import records
from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.queries import QueryAudit, QueryFilter
from sandboxd.store.records import QueryVerdict

_TO_STORE = {
    Verdict.STARTED: QueryVerdict.PENDING,
    Verdict.COMPLETED: QueryVerdict.ALLOWED,
    Verdict.REFUSED: QueryVerdict.REFUSED,
    Verdict.FAILED: QueryVerdict.FAILED,
    Verdict.CANCELLED: QueryVerdict.FAILED,
}
_FROM_STORE = {
    QueryVerdict.PENDING: Verdict.STARTED,
    QueryVerdict.ALLOWED: Verdict.COMPLETED,
    QueryVerdict.REFUSED: Verdict.REFUSED,
    QueryVerdict.FAILED: Verdict.FAILED,
}
_CANCELLED = "cancel"


class StoreAudit:
    """An `AuditLog` over the store's queries."""

    def __init__(self, queries: QueryAudit) -> None:
        self._queries = queries

    async def record(self, entry: QueryRecord) -> None:
        """Durable against a kill of the server when it returns; raises `AuditFailed`."""
        try:
            await self._queries.record(stored(entry))
        except (StoreFull, StoreUnavailable) as error:
            raise AuditFailed(str(error)) from error

    async def list(
        self, wanted: AuditFilter, *, page_size: int, page_token: str = ""
    ) -> tuple[Sequence[QueryRecord], str]:
        """Records, newest first; raises `InvalidPageToken`."""
        verdicts = tuple(sorted({_TO_STORE[verdict] for verdict in wanted.verdicts}))
        query = QueryFilter(
            owner=wanted.principal or None,
            user_id=wanted.user_id or None,
            sandbox_id=wanted.sandbox_id or None,
            execution_id=wanted.execution_id or None,
            database=wanted.database or None,
            id=wanted.query_id or None,
            verdicts=verdicts,
            time_from=wanted.start_time,
            time_before=wanted.end_time,
        )
        page = await self._queries.list(query, page_size=page_size, page_token=page_token)
        entries = [restored(record) for record in page.queries]
        return [entry for entry in entries if wanted.matches(entry)], page.next_page_token


def stored(entry: QueryRecord) -> records.QueryRecord:
    """A record in the store's form."""
    extra = {
        "parameters": [asdict(parameter) for parameter in entry.parameters],
        "message": entry.message,
        "truncated_by": entry.truncated_by,
    }
    return records.QueryRecord(
        id=entry.id,
        owner=entry.principal,
        user_id=entry.user_id,
        time=entry.time,
        database=entry.database,
        statement=entry.sql,
        verdict=_TO_STORE[entry.verdict],
        sandbox_id=entry.sandbox_id,
        execution_id=entry.execution_id or None,
        origin=entry.origin,
        line=entry.line or None,
        statement_sha256=sha256(entry.sql.encode("utf-8", "replace")).digest()
        if entry.sql_truncated
        else None,
        final_statement=entry.bridged_sql or None,
        fingerprint=entry.fingerprint or None,
        kind=entry.kind or None,
        tables=entry.tables,
        columns_written=entry.written_columns,
        functions=entry.functions,
        parameters=json.dumps(extra),
        layer=entry.layer or None,
        reason=entry.reason or None,
        rows=entry.rows,
        bytes=entry.size_bytes,
        affected=entry.affected,
        truncated=bool(entry.truncated_by),
        parse_us=entry.check_us,
        queue_us=entry.queue_us,
        database_us=entry.engine_us,
        sqlstate=entry.sqlstate or None,
        worker_pid=entry.worker_pid or None,
        ended_by=_CANCELLED if entry.verdict is Verdict.CANCELLED else None,
    )


def _digest(sql: str) -> bytes:
    return sha256(sql.encode("utf-8", "replace")).digest()


def restored(record: records.QueryRecord) -> QueryRecord:
    """A record from the store's form."""
    extra = json.loads(record.parameters)
    cancelled = record.ended_by == _CANCELLED
    return QueryRecord(
        id=record.id,
        time=record.time,
        principal=record.owner,
        user_id=record.user_id,
        sandbox_id=record.sandbox_id or "",
        database=record.database,
        sql=record.statement,
        verdict=Verdict.CANCELLED if cancelled else _FROM_STORE[record.verdict],
        origin="sandbox" if record.origin == "sandbox" else "grpc",
        execution_id=record.execution_id or "",
        line=record.line or 0,
        sql_truncated=record.statement_sha256 is not None,
        bridged_sql=record.final_statement or "",
        fingerprint=record.fingerprint or "",
        kind=record.kind or "",
        tables=record.tables,
        written_columns=record.columns_written,
        functions=record.functions,
        parameters=tuple(RecordedParameter(**item) for item in extra.get("parameters", ())),
        layer=record.layer or "",
        reason=record.reason or "",
        message=extra.get("message", ""),
        sqlstate=record.sqlstate or "",
        rows=record.rows,
        size_bytes=record.bytes,
        affected=record.affected,
        truncated_by=extra.get("truncated_by", ""),
        queue_us=record.queue_us or 0,
        check_us=record.parse_us or 0,
        engine_us=record.database_us or 0,
        worker_pid=record.worker_pid or 0,
    )
