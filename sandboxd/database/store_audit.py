"""Keeps the audit in the server's store."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from sandboxd.database.audit import AuditFailed, AuditFilter, QueryRecord, RecordedParameter, Verdict
from sandboxd.store import records
from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.queries import QueryAudit, QueryFilter
from sandboxd.store.records import QueryVerdict


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
        verdicts = tuple(sorted(QueryVerdict(verdict) for verdict in wanted.verdicts))
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
        return [restored(record) for record in page.queries], page.next_page_token


def stored(entry: QueryRecord) -> records.QueryRecord:
    """A record in the store's form."""
    return records.QueryRecord(
        id=entry.id,
        owner=entry.principal,
        user_id=entry.user_id,
        time=entry.time,
        database=entry.database,
        sql=entry.sql,
        verdict=QueryVerdict(entry.verdict),
        sandbox_id=entry.sandbox_id or None,
        execution_id=entry.execution_id or None,
        origin=entry.origin,
        line=entry.line,
        sql_truncated=entry.sql_truncated,
        bridged_sql=entry.bridged_sql,
        fingerprint=entry.fingerprint,
        kind=entry.kind,
        tables=entry.tables,
        written_columns=entry.written_columns,
        functions=entry.functions,
        parameters=json.dumps([asdict(parameter) for parameter in entry.parameters]),
        layer=entry.layer,
        reason=entry.reason,
        message=entry.message,
        sqlstate=entry.sqlstate,
        rows=entry.rows,
        size_bytes=entry.size_bytes,
        affected=entry.affected,
        truncated_by=entry.truncated_by,
        queue_us=entry.queue_us,
        check_us=entry.check_us,
        engine_us=entry.engine_us,
        worker_pid=entry.worker_pid,
    )


def restored(record: records.QueryRecord) -> QueryRecord:
    """A record from the store's form."""
    return QueryRecord(
        id=record.id,
        time=record.time,
        principal=record.owner,
        user_id=record.user_id,
        sandbox_id=record.sandbox_id or "",
        database=record.database,
        sql=record.sql,
        verdict=Verdict(record.verdict),
        origin=_origin(record.origin),
        execution_id=record.execution_id or "",
        line=record.line,
        sql_truncated=record.sql_truncated,
        bridged_sql=record.bridged_sql,
        fingerprint=record.fingerprint,
        kind=record.kind,
        tables=record.tables,
        written_columns=record.written_columns,
        functions=record.functions,
        parameters=tuple(RecordedParameter(**item) for item in json.loads(record.parameters)),
        layer=record.layer,
        reason=record.reason,
        message=record.message,
        sqlstate=record.sqlstate,
        rows=record.rows,
        size_bytes=record.size_bytes,
        affected=record.affected,
        truncated_by=_truncated_by(record.truncated_by),
        queue_us=record.queue_us,
        check_us=record.check_us,
        engine_us=record.engine_us,
        worker_pid=record.worker_pid,
    )


def _origin(text: str) -> Literal["grpc", "sandbox"]:
    return "sandbox" if text == "sandbox" else "grpc"


def _truncated_by(text: str) -> Literal["", "rows", "bytes"]:
    match text:
        case "rows" | "bytes":
            return text
        case _:
            return ""
