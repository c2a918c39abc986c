"""Executions as they go over the wire. Pure: nothing is looked up and nothing can fail."""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf import duration_pb2, timestamp_pb2
from sandboxd_api.v1 import (
    checkpoint_pb2,
    execution_event_pb2,
    execution_pb2,
    sandbox_pb2,
)

from sandboxd.channel import messages
from sandboxd.executions import events, model
from sandboxd.executions.live import LiveExecution
from sandboxd.rpc import values
from sandboxd.sandboxes.model import CheckpointReport, SessionOutcome

_NANOS = 1_000_000_000


def timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    """An instant."""
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def seconds(value: float) -> duration_pb2.Duration:
    """A length of time given in seconds."""
    nanos = round(value * _NANOS)
    return duration_pb2.Duration(seconds=nanos // _NANOS, nanos=nanos % _NANOS)


def variable(value: messages.VariableReport) -> sandbox_pb2.Variable:
    """A variable: its summary, and its typed value where there is one."""
    message = sandbox_pb2.Variable()
    fill_variable(message, value)
    return message


def fill_variable(message: sandbox_pb2.Variable, value: messages.VariableReport) -> None:
    """The same, written into `message`."""
    message.name, message.type_name = value.name, value.type_name
    message.summary, message.truncated = value.summary, value.truncated
    if value.value is not None:
        values.fill(message.value, value.value)


def output(value: model.Output) -> execution_pb2.Output:
    """What is kept of a stream."""
    return execution_pb2.Output(
        data=value.data,
        total_bytes=value.total_bytes,
        truncated=value.truncated,
        head_bytes=value.head_bytes,
    )


def log_entry(entry: messages.LogEntry) -> execution_pb2.LogEntry:
    """An entry of the debug log."""
    message = execution_pb2.LogEntry(
        level=execution_pb2.LogEntry.Level.Value(f"LEVEL_{entry.level}"),
        message=entry.message,
        line=_line(entry.line),
        truncated=entry.truncated,
    )
    _set_nanos(message.time, entry.time_ns)
    return message


def inspected(entry: messages.Inspected) -> execution_pb2.InspectedVariable:
    """A variable that user code recorded."""
    message = execution_pb2.InspectedVariable()
    _fill_inspected(message, entry)
    return message


def _fill_inspected(message: execution_pb2.InspectedVariable, entry: messages.Inspected) -> None:
    message.line = _line(entry.line)
    fill_variable(message.variable, entry.variable)
    _set_nanos(message.time, entry.time_ns)


def _set_nanos(target: timestamp_pb2.Timestamp, nanos: int) -> None:
    """A guest's clock reading: out of the range of a timestamp it is left unset, not an error."""
    whole, rest = divmod(nanos, _NANOS)
    if 0 <= whole < 253_402_300_800:
        target.seconds = whole
        target.nanos = rest


def _line(number: int) -> int:
    return number if 0 <= number < 2**31 else 0


def failure(value: model.Failure) -> execution_pb2.Failure:
    """Why an execution did not succeed."""
    message = execution_pb2.Failure(
        kind=execution_pb2.Failure.Kind.Value(f"KIND_{value.kind.value}"),
        type_name=value.type_name,
        message=value.message,
        traceback=value.traceback,
        hint=value.hint,
        signal=value.signal,
    )
    for frame in value.frames:
        message.frames.add(
            function=frame.function,
            file=frame.label,
            line=_line(frame.line),
            source_line=frame.source_line,
            in_user_code=frame.in_user_code,
            variables=[variable(item) for item in frame.variables],
        )
    for violation in value.violations:
        message.violations.add(
            rule=violation.rule,
            message=violation.message,
            line=_line(violation.line),
            column=_line(violation.column),
            alternative=violation.alternative,
        )
    return message


def usage(value: model.Usage) -> execution_pb2.Usage:
    """What an execution used."""
    return execution_pb2.Usage(
        wall_time=seconds(value.wall_seconds),
        cpu_time=seconds(value.cpu_seconds),
        queue_time=seconds(value.queue_seconds),
        start_time=seconds(value.start_seconds),
        paused_time=seconds(value.paused_seconds),
        peak_memory_bytes=value.peak_memory_bytes,
        output_bytes=value.output_bytes,
    )


def limit_receipt(value: model.LimitReceipt) -> execution_pb2.LimitReceipt:
    """The limit that ended an execution."""
    return execution_pb2.LimitReceipt(
        limit=execution_pb2.LimitReceipt.Limit.Value(f"LIMIT_{value.limit.value}"),
        limit_value=value.limit_value,
        used_value=value.used_value,
        unit=value.unit,
        message=value.message,
    )


def checkpoint_report(value: CheckpointReport) -> checkpoint_pb2.CheckpointReport:
    """Whether there is a state to go back to."""
    message = checkpoint_pb2.CheckpointReport(message=value.message, checkpoint_id=value.checkpoint_id)
    if value.skipped is None:
        message.state = checkpoint_pb2.CheckpointReport.STATE_TAKEN
    else:
        message.state = checkpoint_pb2.CheckpointReport.STATE_SKIPPED
        name = f"SKIP_REASON_{value.skipped.value}"
        message.skip_reason = checkpoint_pb2.CheckpointReport.SkipReason.Value(name)
    return message


def session(value: SessionOutcome) -> execution_pb2.SessionOutcome:
    """What became of the session."""
    return execution_pb2.SessionOutcome(
        state=execution_pb2.SessionOutcome.State.Value(f"STATE_{value.state.value}"),
        restored_from_execution_id=value.restored_from_execution_id,
        restored_from_execution_number=value.restored_from_number,
        reason=value.reason,
        checkpoint=checkpoint_report(value.checkpoint),
    )


def _state(value: model.ExecutionState) -> "execution_pb2.Execution.State.ValueType":
    return execution_pb2.Execution.State.Value(f"STATE_{value.value}")


def _fill_result(message: execution_pb2.ExecutionResult, value: model.ExecutionResult, *, full: bool) -> None:
    """How an execution ended; the basic view leaves out what may be large. What is large is written in place:
    a copy of it would hold everybody up."""
    message.MergeFrom(
        execution_pb2.ExecutionResult(
            state=_state(value.state), usage=usage(value.usage), session=session(value.session)
        )
    )
    if value.limit_receipt is not None:
        message.limit_receipt.CopyFrom(limit_receipt(value.limit_receipt))
    if not full:
        if value.failure is not None:
            kind = execution_pb2.Failure.Kind.Value(f"KIND_{value.failure.kind.value}")
            message.failure.kind = kind
            message.failure.message = value.failure.message
        return
    if value.failure is not None:
        message.failure.CopyFrom(failure(value.failure))
    if value.value is not None:
        values.fill(message.value, value.value)
    message.value_truncated = value.value_truncated
    message.stdout.CopyFrom(output(value.stdout))
    message.stderr.CopyFrom(output(value.stderr))
    message.log_entries.extend(log_entry(entry) for entry in value.log_entries)
    for entry in value.inspected:
        _fill_inspected(message.inspected_variables.add(), entry)
    message.dropped_log_entry_count = value.dropped_log_entries
    message.cancelled_task_count = value.cancelled_tasks
    message.live_thread_count = value.live_threads


def execution(value: model.Execution, *, full: bool = True) -> execution_pb2.Execution:
    """An execution as it stands."""
    message = execution_pb2.Execution()
    fill_execution(message, value, full=full)
    return message


def fill_execution(message: execution_pb2.Execution, value: model.Execution, *, full: bool = True) -> None:
    """The same, written into `message`."""
    message.MergeFrom(
        execution_pb2.Execution(
            id=value.id,
            sandbox_id=value.sandbox_id,
            user_id=value.user_id,
            number=value.number,
            kind=execution_pb2.Execution.Kind.Value(f"KIND_{value.request.kind.value}"),
            state=_state(value.state),
            create_time=timestamp(value.create_time),
            request_id=value.request.request_id,
            code=value.request.code if full else "",
            query_count=value.query_count,
            trace_step_count=value.trace_step_count,
            last_sequence=value.last_sequence,
        )
    )
    if value.start_time is not None:
        message.start_time.CopyFrom(timestamp(value.start_time))
    if value.end_time is not None:
        message.end_time.CopyFrom(timestamp(value.end_time))
    if value.result is not None:
        _fill_result(message.result, value.result, full=full)


def event(value: events.Event, live: LiveExecution) -> execution_event_pb2.ExecutionEvent:
    """One event of an execution; the last carries the execution with its result."""
    message = execution_event_pb2.ExecutionEvent(sequence=value.sequence, execution_id=live.execution.id)
    _set_nanos(message.time, value.time_ns)
    match value.body:
        case events.Queued(position=position):
            message.queued.position = position
            message.queued.SetInParent()
        case events.Started(number=number):
            message.started.number = number
        case events.OutputWritten(stream=stream, data=data, offset=offset):
            chunk = message.stdout if stream == "stdout" else message.stderr
            chunk.data = data
            chunk.offset = offset
        case messages.LogEntry():
            message.log_entry.CopyFrom(log_entry(value.body))
        case messages.Inspected():
            _fill_inspected(message.inspected_variable, value.body)
        case events.Dropped():
            message.dropped.stdout_dropped_bytes = value.body.stdout_bytes
            message.dropped.stderr_dropped_bytes = value.body.stderr_bytes
            message.dropped.dropped_log_entry_count = value.body.log_entries
            message.dropped.reason = execution_event_pb2.EventsDropped.REASON_LIMIT
        case events.NotKept():
            message.dropped.reason = execution_event_pb2.EventsDropped.REASON_NOT_KEPT
        case events.Ended():
            fill_execution(message.finished.execution, live.execution)
    return message


def executions(values_: Iterable[model.Execution], *, full: bool) -> list[execution_pb2.Execution]:
    """A page of executions."""
    return [execution(value, full=full) for value in values_]
