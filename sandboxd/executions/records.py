"""Executions as the store keeps them: one opaque result, and beside it what lists and figures need."""

import hashlib

import msgspec

from sandboxd.executions.model import (
    Execution,
    ExecutionKind,
    ExecutionRequest,
    ExecutionResult,
    ExecutionState,
    Failure,
    FailureKind,
    LimitReceipt,
    Usage,
)
from sandboxd.store import records
from sandboxd.store.records import ExecutionOutcome, ExecutionRecord, ExecutionSummary, PhaseDurations

_usage_decoder = msgspec.json.Decoder(tuple[int, int, Usage])
_receipt_decoder = msgspec.json.Decoder(LimitReceipt)
_MICROS = 1_000_000


def fingerprint(request: ExecutionRequest, sandbox_id: str) -> bytes:
    """Tells whether two requests with one id are the same request."""
    return hashlib.sha256(msgspec.msgpack.encode((sandbox_id, request))).digest()


def begun(execution: Execution, *, request_fingerprint: bytes | None) -> ExecutionRecord:
    """The record of an execution that was accepted."""
    request = execution.request
    return ExecutionRecord(
        id=execution.id,
        sandbox_id=execution.sandbox_id,
        owner=execution.owner,
        user_id=execution.user_id,
        state=records.ExecutionState.QUEUED,
        create_time=execution.create_time,
        code=request.code,
        kind=request.kind.value,
        request_id=request.request_id or None,
        request_fingerprint=request_fingerprint,
    )


def outcome(execution: Execution, result: ExecutionResult) -> ExecutionOutcome:
    """The record of how it ended."""
    usage = result.usage
    failure = result.failure
    return ExecutionOutcome(
        state=records.ExecutionState(result.state.value),
        start_time=execution.start_time,
        end_time=execution.end_time or execution.create_time,
        result=msgspec.msgpack.encode((execution.number, execution.query_count, result)),
        usage=msgspec.json.encode((execution.number, execution.query_count, usage)).decode(),
        limit_receipt=msgspec.json.encode(result.limit_receipt).decode() if result.limit_receipt else None,
        limit_name=result.limit_receipt.limit.value if result.limit_receipt else None,
        failure_kind=failure.kind.value if failure else None,
        failure=failure.message[:1000] if failure else None,
        phases=PhaseDurations(
            queue_us=round(usage.queue_seconds * _MICROS),
            start_us=round(usage.start_seconds * _MICROS),
            run_us=round(usage.wall_seconds * _MICROS),
            end_us=round(usage.end_seconds * _MICROS),
        ),
    )


_whole_decoder = msgspec.msgpack.Decoder(tuple[int, int, ExecutionResult])


def from_record(record: ExecutionRecord) -> Execution:
    """The whole execution again."""
    execution = Execution(
        id=record.id,
        owner=record.owner,
        user_id=record.user_id,
        sandbox_id=record.sandbox_id,
        request=ExecutionRequest(
            code=record.code, kind=ExecutionKind(record.kind), request_id=record.request_id or ""
        ),
        create_time=record.create_time,
        state=ExecutionState(record.state.value),
    )
    found = record.outcome
    if found is not None:
        execution.start_time, execution.end_time = found.start_time, found.end_time
        if found.result:
            execution.number, execution.query_count, execution.result = _whole_decoder.decode(found.result)
        else:
            execution.result = _without_result(execution.state, found.failure_kind)
    return execution


def from_summary(summary: ExecutionSummary) -> Execution:
    """An execution as lists show it."""
    state = ExecutionState(summary.state.value)
    kind, message = summary.failure_kind, summary.failure or ""
    number, query_count, usage = (
        _usage_decoder.decode(summary.usage) if summary.usage.startswith("[") else (0, 0, Usage())
    )
    result = None
    if state.final:
        result = ExecutionResult(
            state=state,
            failure=Failure(kind=FailureKind(kind), message=message) if kind else None,
            usage=usage,
            limit_receipt=_receipt_decoder.decode(summary.limit_receipt) if summary.limit_receipt else None,
        )
    return Execution(
        id=summary.id,
        owner=summary.owner,
        user_id=summary.user_id,
        sandbox_id=summary.sandbox_id,
        request=ExecutionRequest(
            code="", kind=ExecutionKind(summary.kind), request_id=summary.request_id or ""
        ),
        create_time=summary.create_time,
        number=number,
        query_count=query_count,
        state=state,
        start_time=summary.start_time,
        end_time=summary.end_time,
        result=result,
    )


def _without_result(state: ExecutionState, failure_kind: str | None) -> ExecutionResult:
    """What the service can say of an execution that it ended without: it stopped beneath it."""
    if failure_kind != FailureKind.NEVER_RAN.value:
        failure = Failure(
            kind=FailureKind.OUTCOME_UNKNOWN,
            message="the service ended while it ran; what it did by then is unknown",
            hint="run it again if running it twice does no harm",
        )
    else:
        failure = Failure(
            kind=FailureKind.NEVER_RAN,
            message="the service ended before it started",
            hint="nothing was run; it is safe to try again",
        )
    return ExecutionResult(state=state, failure=failure)
