"""Results and executions out of protobuf messages; the only place that reads them."""

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from sandboxd_api.v1 import checkpoint_pb2, execution_pb2, sandbox_pb2

from sandboxd_client import results
from sandboxd_client.values import natural


class _Names(Protocol):
    """An enum of the contract."""

    def Name(self, number: Any) -> str:  # noqa: N802 # protobuf's own name
        """The name of a value."""
        ...


_STATUS: dict[int, results.Status] = {
    execution_pb2.Execution.STATE_QUEUED: "queued",
    execution_pb2.Execution.STATE_RUNNING: "running",
    execution_pb2.Execution.STATE_PAUSED: "paused",
    execution_pb2.Execution.STATE_SUCCEEDED: "completed",
    execution_pb2.Execution.STATE_FAILED: "failed",
    execution_pb2.Execution.STATE_TIMED_OUT: "timed_out",
    execution_pb2.Execution.STATE_CANCELLED: "cancelled",
    execution_pb2.Execution.STATE_ABORTED: "aborted",
}
STATE_OF_STATUS: dict[str, Any] = {status: state for state, status in _STATUS.items()}

_SESSION: dict[int, results.SessionState] = {
    execution_pb2.SessionOutcome.STATE_KEPT: "kept",
    execution_pb2.SessionOutcome.STATE_RESTORED: "restored",
    execution_pb2.SessionOutcome.STATE_LOST: "lost",
    execution_pb2.SessionOutcome.STATE_ENDED: "ended",
}


def status(state: int) -> results.Status:
    """The status word of a state; an unknown one counts as aborted."""
    return _STATUS.get(state, "aborted")


def moment(stamp: Timestamp) -> datetime | None:
    """An instant in UTC, or None when unset."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return stamp.ToDatetime(tzinfo=UTC)


def span(duration: Duration) -> timedelta:
    """A length of time."""
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)


def word(names: _Names, value: int, prefix: str) -> str:
    """The lower-case word of an enum's value, such as `memory` for LIMIT_MEMORY; empty when unspecified."""
    try:
        name = names.Name(value)
    except ValueError:
        return f"unknown_{value}"
    text = name.removeprefix(prefix).lower()
    return "" if text == "unspecified" else text


def variable(found: sandbox_pb2.Variable) -> results.Variable:
    """A variable with its value, where it came along."""
    has_value = found.HasField("value")
    return results.Variable(
        name=found.name,
        type_name=found.type_name,
        summary=found.summary,
        truncated=found.truncated,
        has_value=has_value,
        value=natural(found.value) if has_value else None,
    )


def log_entry(entry: execution_pb2.LogEntry) -> results.LogEntry:
    """One entry of the debug log."""
    level = word(execution_pb2.LogEntry.Level, entry.level, "LEVEL_").upper() or "INFO"
    return results.LogEntry(
        level=level,
        message=entry.message,
        time=moment(entry.time),
        line=entry.line,
        truncated=entry.truncated,
    )


def inspected(found: execution_pb2.InspectedVariable) -> results.InspectedVariable:
    """One recorded variable."""
    return results.InspectedVariable(
        variable=variable(found.variable), time=moment(found.time), line=found.line
    )


def failure(found: execution_pb2.Failure) -> results.ExecutionError:
    """Why an execution did not complete."""
    return results.ExecutionError(
        kind=word(execution_pb2.Failure.Kind, found.kind, "KIND_"),
        type=found.type_name,
        message=found.message,
        traceback=found.traceback,
        frames=tuple(_frame(frame) for frame in found.frames),
        violations=tuple(_violation(violation) for violation in found.violations),
        hint=found.hint,
        signal=found.signal,
    )


def _frame(frame: execution_pb2.Frame) -> results.Frame:
    return results.Frame(
        function=frame.function,
        file=frame.file,
        line=frame.line,
        source_line=frame.source_line,
        in_user_code=frame.in_user_code,
        variables=tuple(variable(found) for found in frame.variables),
    )


def _violation(found: execution_pb2.Violation) -> results.Violation:
    return results.Violation(
        rule=found.rule,
        message=found.message,
        line=found.line,
        column=found.column,
        alternative=found.alternative,
    )


def output(found: execution_pb2.Output) -> results.Output:
    """Bytes of stdout or stderr."""
    return results.Output(
        data=found.data,
        total_bytes=found.total_bytes,
        truncated=found.truncated,
        head_bytes=found.head_bytes,
    )


def usage(found: execution_pb2.Usage) -> results.Usage:
    """What an execution used."""
    return results.Usage(
        wall_time=span(found.wall_time),
        cpu_time=span(found.cpu_time),
        queue_time=span(found.queue_time),
        start_time=span(found.start_time),
        paused_time=span(found.paused_time),
        peak_memory_bytes=found.peak_memory_bytes,
        output_bytes=found.output_bytes,
    )


def checkpoint_report(found: checkpoint_pb2.CheckpointReport) -> results.CheckpointReport:
    """Whether a state was kept."""
    return results.CheckpointReport(
        taken=found.state == checkpoint_pb2.CheckpointReport.STATE_TAKEN,
        skip_reason=word(checkpoint_pb2.CheckpointReport.SkipReason, found.skip_reason, "SKIP_REASON_"),
        message=found.message,
        checkpoint_id=found.checkpoint_id,
    )


def _session(found: execution_pb2.SessionOutcome) -> results.SessionOutcome:
    return results.SessionOutcome(
        state=_SESSION.get(found.state, "unknown"),
        restored_from_execution_id=found.restored_from_execution_id,
        restored_from_execution_number=found.restored_from_execution_number,
        reason=found.reason,
        checkpoint=checkpoint_report(found.checkpoint),
    )


def _receipt(found: execution_pb2.LimitReceipt) -> results.LimitReceipt:
    return results.LimitReceipt(
        limit=word(execution_pb2.LimitReceipt.Limit, found.limit, "LIMIT_"),
        limit_value=found.limit_value,
        used_value=found.used_value,
        unit=found.unit,
        message=found.message,
    )


def result_of(execution: execution_pb2.Execution) -> results.ExecutionResult:
    """The result of an execution that has ended."""
    found = execution.result
    return results.ExecutionResult(
        execution_id=execution.id,
        sandbox_id=execution.sandbox_id,
        number=execution.number,
        status=status(execution.state or found.state),
        result=natural(found.value) if found.HasField("value") else None,
        result_truncated=found.value_truncated,
        has_result=found.HasField("value"),
        error=failure(found.failure) if found.HasField("failure") else None,
        raw_stdout=output(found.stdout),
        raw_stderr=output(found.stderr),
        debug_info=results.DebugInfo(
            log=tuple(log_entry(entry) for entry in found.log_entries),
            variables=tuple(inspected(item) for item in found.inspected_variables),
            dropped_count=found.dropped_log_entry_count,
        ),
        usage=usage(found.usage),
        limit_receipt=_receipt(found.limit_receipt) if found.HasField("limit_receipt") else None,
        session=_session(found.session),
        cancelled_task_count=found.cancelled_task_count,
        live_thread_count=found.live_thread_count,
    )


def execution_of(found: execution_pb2.Execution) -> results.Execution:
    """An execution as the history tells it."""
    return results.Execution(
        id=found.id,
        sandbox_id=found.sandbox_id,
        user_id=found.user_id,
        number=found.number,
        kind=word(execution_pb2.Execution.Kind, found.kind, "KIND_"),
        status=status(found.state),
        create_time=moment(found.create_time),
        start_time=moment(found.start_time),
        end_time=moment(found.end_time),
        code=found.code,
        result=result_of(found) if found.HasField("result") else None,
        query_count=found.query_count,
        trace_step_count=found.trace_step_count,
        last_sequence=found.last_sequence,
    )
