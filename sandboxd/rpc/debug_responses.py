"""What happens in a debug run as finished response bytes.

The guest's payloads are put into their envelopes by length, unparsed; what the host adds to one is
appended, since protobuf merges fields of messages that are put behind each other.
"""

from collections import deque
from collections.abc import Iterator

from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from sandboxd_api.v1 import debug_pb2, debug_session_pb2, execution_pb2, trace_pb2
from sandboxd_api.v1 import execution_service_pb2 as pb

from sandboxd.channel import debug
from sandboxd.channel.messages import Inspected, LogEntry
from sandboxd.errors import WrongState
from sandboxd.executions.debug_feed import DebugFeed
from sandboxd.executions.debug_items import FeedEnded, FeedItem, Wrote
from sandboxd.executions.live import LiveExecution
from sandboxd.executions.model import FailureKind
from sandboxd.rpc import responses

_MAX_ANSWER_BYTES = 8 * 1024 * 1024
_STOP_OUTPUT_BYTES = 64 * 1024
_MAX_LOG_ENTRIES = 100
_MOST_STEPS = 2**63 - 1
_NEVER_BEGAN = (FailureKind.SYNTAX_ERROR, FailureKind.POLICY_VIOLATION)
"""There is nothing to sum up."""
_Fields = pb.DebugSessionResponse.DESCRIPTOR.fields_by_name
_EventFields = debug_pb2.DebugEvent.DESCRIPTOR.fields_by_name


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def finished(live: LiveExecution, feed: DebugFeed) -> debug_pb2.DebugFinished:
    """The end of a run; a summary that the guest did not send is made up of what the host counted."""
    summary = debug_pb2.DebugSummary()
    try:
        summary = debug_pb2.DebugSummary.FromString(feed.summary)
    except DecodeError:
        summary.notes.append("the guest's summary is not readable")
    failure = live.execution.result.failure if live.execution.result else None
    if not feed.summary and (failure is None or failure.kind not in _NEVER_BEGAN):
        summary.recorded_step_count = feed.streamed_steps + feed.left_out_steps
        summary.notes.append("the guest ended before it could sum up; later steps are missing")
    if feed.left_out_entries:
        summary.notes.append(
            f"{feed.left_out_entries} entries of output and log were not streamed: the reader was too slow"
        )
    if feed.left_out_steps:
        summary.left_out_step_count = min(summary.left_out_step_count + feed.left_out_steps, _MOST_STEPS)
        summary.notes.append(f"{feed.left_out_steps} steps were not streamed: the reader was too slow")
    return debug_pb2.DebugFinished(execution=responses.execution(live.execution), summary=summary)


def started(
    live: LiveExecution, item: debug.DebugStarted, options: debug_pb2.DebugOptions
) -> debug_pb2.DebugStarted:
    """The start of a run."""
    return debug_pb2.DebugStarted(
        execution_id=live.execution.id,
        options=options,
        executable_lines=[line for line in item.executable_lines[:100_000] if 0 < line < 2**31],
    )


def logged(item: LogEntry | debug.DebugLogpoint) -> execution_pb2.LogEntry:
    """A log entry, or what a breakpoint logs in place of stopping."""
    if isinstance(item, debug.DebugLogpoint):
        item = LogEntry(
            run_id=item.run_id, level="INFO", message=item.message, time_ns=item.time_ns, line=item.line
        )
    return responses.log_entry(item)


def wrote(item: Wrote) -> debug_pb2.DebugOutput:
    """Bytes of a stream."""
    return debug_pb2.DebugOutput(data=item.data, offset=item.offset)


def trace_answer(answer: debug.CommandDone) -> trace_pb2.TraceAnswer:
    """The guest's answer, read; `WrongState` when it is none."""
    try:
        if len(answer.payload) > _MAX_ANSWER_BYTES:
            raise DecodeError("too long")
        return trace_pb2.TraceAnswer.FromString(answer.payload)
    except DecodeError:
        raise WrongState(problem="the guest's answer is not readable") from None


class StreamWriter:
    """Writes the responses of Debug."""

    def __init__(self, live: LiveExecution, feed: DebugFeed, options: debug_pb2.DebugOptions) -> None:
        self._live = live
        self._feed = feed
        self._options = options
        self._sequence = 0

    def responses(self, item: FeedItem) -> Iterator[bytes]:
        """The responses for one item; one for each self-contained step."""
        match item:
            case debug.DebugSteps():
                name = "step" if item.full else "batch"
                for payload in item.payloads:
                    yield self._event(name, payload)
            case debug.DebugStarted():
                yield self._event("started", started(self._live, item, self._options).SerializeToString())
            case Wrote():
                yield self._event(item.stream, wrote(item).SerializeToString())
            case LogEntry() | debug.DebugLogpoint():
                yield self._event("log_entry", logged(item).SerializeToString())
            case Inspected():
                yield self._event("inspected_variable", responses.inspected(item).SerializeToString())
            case FeedEnded() if self._live.refused is None:
                yield self._event("finished", finished(self._live, self._feed).SerializeToString())
            case _:
                return

    def _event(self, name: str, payload: bytes) -> bytes:
        self._sequence += 1
        event = b"\x08" + _varint(self._sequence) + _field(_EventFields[name].number, payload)
        return _field(1, event)


class SessionWriter:
    """Writes the responses of DebugSession; knows which command a stop answers."""

    def __init__(self, live: LiveExecution, feed: DebugFeed, first: pb.DebugSessionRequest) -> None:
        self._live = live
        self._feed = feed
        self._options = first.start.debug_options
        self._start_id = first.command_id
        self._sequence = 0
        self._awaiting: deque[int] = deque()
        self._output: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._output_total = {"stdout": 0, "stderr": 0}
        self._logs: list[execution_pb2.LogEntry] = []

    def awaits_stop(self, command_id: int) -> None:
        """The next stop answers this command."""
        self._awaiting.append(command_id)

    def responses(self, item: FeedItem) -> Iterator[bytes]:
        """The responses for one item."""
        match item:
            case debug.DebugStopped():
                yield self._response("stopped", item.payload + self._beside_stop(), self._answered())
            case debug.CommandDone():
                yield from self._done(item)
            case debug.DebugSteps():
                for payload in item.payloads:
                    yield self._response("step" if item.full else "batch", payload)
            case debug.DebugStarted():
                body = started(self._live, item, self._options).SerializeToString()
                yield self._response("started", body, self._start_id)
            case Wrote():
                self._note_output(item)
                yield self._response(item.stream, wrote(item).SerializeToString())
            case LogEntry() | debug.DebugLogpoint():
                entry = logged(item)
                self._logs = [*self._logs[-_MAX_LOG_ENTRIES + 1 :], entry]
                yield self._response("log_entry", entry.SerializeToString())
            case Inspected():
                yield self._response("inspected_variable", responses.inspected(item).SerializeToString())
            case FeedEnded() if self._live.refused is None:
                body = finished(self._live, self._feed).SerializeToString()
                yield self._response("finished", body, self._answered())
            case _:
                return

    def _done(self, item: debug.CommandDone) -> Iterator[bytes]:
        if item.kind == "done":
            return
        if item.kind == "refused":
            if item.command_id in self._awaiting:
                self._awaiting.remove(item.command_id)
            refusal = debug_session_pb2.CommandRefused(reason=item.reason[:100], message=item.message[:2000])
            yield self._response("refused", refusal.SerializeToString(), item.command_id)
            return
        yield self._response(item.kind, item.payload, item.command_id)

    def _answered(self) -> int:
        return self._awaiting.popleft() if self._awaiting else 0

    def _note_output(self, item: Wrote) -> None:
        kept = self._output[item.stream]
        self._output_total[item.stream] += len(item.data)
        kept += item.data[: max(_STOP_OUTPUT_BYTES - len(kept), 0)]

    def _beside_stop(self) -> bytes:
        """What only the host knows of a stop: output and log since the last one, and the time left."""
        remaining = self._live.run.remaining_seconds if self._live.run is not None else 0.0
        nanos = round(remaining * 1e9)
        more = debug_session_pb2.Stopped(
            log_entries=self._logs,
            remaining_time=duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9),
        )
        for name, kept in self._output.items():
            if kept:
                total = self._output_total[name]
                output = getattr(more, name)
                output.data = bytes(kept)
                output.total_bytes = total
        self._logs = []
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._output_total = {"stdout": 0, "stderr": 0}
        return more.SerializeToString()

    def _response(self, name: str, payload: bytes, command_id: int = 0) -> bytes:
        self._sequence += 1
        head = b"\x08" + _varint(self._sequence)
        if command_id:
            head += b"\x10" + _varint(command_id & (1 << 64) - 1)
        return head + _field(_Fields[name].number, payload)
