"""Between records and table rows: pure functions, one pair a noun."""

import json
from typing import Any

from sqlalchemy import Row

from sandboxd.store.records import (
    LIVE_STATES,
    ExecutionOutcome,
    ExecutionRecord,
    ExecutionState,
    ExecutionSummary,
    PhaseDurations,
    QueryRecord,
    QueryVerdict,
    SandboxRecord,
    SandboxState,
)
from sandboxd.store.tables import executions, queries, sandboxes

Values = dict[str, Any]

SANDBOX_COLUMNS = tuple(column.name for column in sandboxes.columns)
QUERY_COLUMNS = tuple(column.name for column in queries.columns)
OUTCOME_COLUMNS = (
    "state",
    "start_time",
    "end_time",
    "queue_us",
    "start_us",
    "run_us",
    "end_us",
    "trace_reference",
    "failure_kind",
    "failure",
    "limit_name",
    "limit_receipt",
    "usage",
    "log",
    "stdout",
    "stderr",
    "result",
)
SUMMARY_COLUMNS = [
    c for c in executions.columns if c.name not in {"code", "log", "stdout", "stderr", "result"}
]
_LISTS = ("tables", "written_columns", "functions")


def sandbox_values(record: SandboxRecord) -> Values:
    return {name: getattr(record, name) for name in SANDBOX_COLUMNS}


def sandbox_record(row: Row[Any]) -> SandboxRecord:
    values = dict(row._mapping)
    values["state"] = SandboxState(values["state"])
    return SandboxRecord(**values)


def outcome_values(outcome: ExecutionOutcome) -> Values:
    phases = outcome.phases
    return {
        "state": outcome.state.value,
        "start_time": outcome.start_time,
        "end_time": outcome.end_time,
        "queue_us": phases.queue_us,
        "start_us": phases.start_us,
        "run_us": phases.run_us,
        "end_us": phases.end_us,
        "trace_reference": outcome.trace_reference,
        "failure_kind": outcome.failure_kind,
        "failure": outcome.failure,
        "limit_name": outcome.limit_name,
        "limit_receipt": outcome.limit_receipt,
        "usage": outcome.usage,
        "log": outcome.log,
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "result": outcome.result,
    }


_NO_OUTCOME: Values = dict.fromkeys(OUTCOME_COLUMNS) | {
    "usage": "{}",
    "log": b"",
    "stdout": b"",
    "stderr": b"",
    "result": b"",
}


def execution_values(record: ExecutionRecord) -> Values:
    outcome = outcome_values(record.outcome) if record.outcome else _NO_OUTCOME
    return outcome | {
        "id": record.id,
        "sandbox_id": record.sandbox_id,
        "owner": record.owner,
        "user_id": record.user_id,
        "kind": record.kind,
        "state": record.outcome.state.value if record.outcome else record.state.value,
        "create_time": record.create_time,
        "stored_bytes": record.stored_bytes,
        "request_id": record.request_id,
        "request_fingerprint": record.request_fingerprint,
        "trace_parent": record.trace_parent,
        "start_time": record.outcome.start_time if record.outcome else record.start_time,
        "code": record.code,
    }


def execution_record(row: Row[Any]) -> ExecutionRecord:
    state = ExecutionState(row.state)
    outcome = None
    if state not in LIVE_STATES:
        outcome = ExecutionOutcome(
            state=state,
            end_time=row.end_time,
            start_time=row.start_time,
            result=bytes(row.result),
            stdout=bytes(row.stdout),
            stderr=bytes(row.stderr),
            log=bytes(row.log),
            usage=row.usage,
            limit_receipt=row.limit_receipt,
            failure_kind=row.failure_kind,
            failure=row.failure,
            limit_name=row.limit_name,
            phases=_phases(row),
            trace_reference=row.trace_reference,
        )
    return ExecutionRecord(
        id=row.id,
        sandbox_id=row.sandbox_id,
        owner=row.owner,
        user_id=row.user_id,
        state=state,
        create_time=row.create_time,
        code=row.code,
        kind=row.kind,
        request_id=row.request_id,
        request_fingerprint=row.request_fingerprint,
        trace_parent=row.trace_parent,
        start_time=row.start_time,
        outcome=outcome,
    )


def execution_summary(row: Row[Any]) -> ExecutionSummary:
    return ExecutionSummary(
        id=row.id,
        sandbox_id=row.sandbox_id,
        owner=row.owner,
        user_id=row.user_id,
        kind=row.kind,
        state=ExecutionState(row.state),
        create_time=row.create_time,
        start_time=row.start_time,
        end_time=row.end_time,
        phases=_phases(row),
        failure_kind=row.failure_kind,
        failure=row.failure,
        limit_name=row.limit_name,
        limit_receipt=row.limit_receipt,
        usage=row.usage,
        request_id=row.request_id,
        trace_reference=row.trace_reference,
        stored_bytes=row.stored_bytes,
    )


def query_values(record: QueryRecord) -> Values:
    values = {name: getattr(record, name) for name in QUERY_COLUMNS}
    for name in _LISTS:
        values[name] = json.dumps(values[name])
    return values


def query_record(row: Row[Any]) -> QueryRecord:
    values = dict(row._mapping)
    values["verdict"] = QueryVerdict(values["verdict"])
    for name in _LISTS:
        values[name] = tuple(json.loads(values[name]))
    return QueryRecord(**values)


def _phases(row: Row[Any]) -> PhaseDurations:
    return PhaseDurations(queue_us=row.queue_us, start_us=row.start_us, run_us=row.run_us, end_us=row.end_us)
