"""Debug runs as a stream of steps."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from sandboxd_api.v1 import debug_pb2, execution_service_pb2

from sandboxd_client import from_wire
from sandboxd_client.debug_steps import BatchReader, DebugStep, full_step
from sandboxd_client.errors import SandboxdError
from sandboxd_client.options import Span, duration, word_of
from sandboxd_client.results import ExecutionResult, InspectedVariable, LogEntry
from sandboxd_client.text import Decoders
from sandboxd_client.transport import Transport

Detail: TypeAlias = Literal["full", "delta", "lines", "summary"]
_DETAILS = ("full", "delta", "lines", "summary")


class TraceOptions(TypedDict, total=False):
    """How a run is traced. Every key may be left out."""

    detail: Detail
    """`full`: each step complete (the default); `delta`: what changed; `lines`; `summary`: no steps."""
    granularity: Literal["statement", "line"]
    functions: Sequence[str]
    """Only steps in these functions; `<module>` is the top level."""
    line_ranges: Sequence[tuple[int, int]]
    """Only steps on these lines, both ends included."""
    names: Sequence[str]
    """Only these variables."""
    every_nth: int
    max_steps: int
    max_depth: int
    flush_interval: Span
    """The longest a step waits to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugStarted:
    """User code starts."""

    execution_id: str
    executable_lines: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugOutput:
    """User code wrote to stdout or stderr."""

    stream: Literal["stdout", "stderr"]
    data: bytes
    text: str
    offset: int
    dropped_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugLogged:
    """User code wrote to the debug log, or recorded a variable."""

    entry: LogEntry | InspectedVariable


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugSummary:
    """What a debug run recorded and what it left out."""

    step_count: int
    recorded_step_count: int
    left_out_step_count: int
    call_count: int
    exception_count: int
    tracing_interrupted: bool
    notes: tuple[str, ...]
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugFinished:
    """The run ended; always the last event."""

    result: ExecutionResult
    summary: DebugSummary


DebugEvent: TypeAlias = DebugStarted | DebugStep | DebugOutput | DebugLogged | DebugFinished


def trace_options(options: TraceOptions) -> debug_pb2.DebugOptions:
    """How a run is traced, as it goes over the wire."""
    detail = word_of(options.get("detail", "full"), _DETAILS, field="detail")
    granularity = word_of(options.get("granularity", "statement"), ("statement", "line"), field="granularity")
    found = debug_pb2.DebugOptions(
        detail=debug_pb2.DebugOptions.Detail.Value(f"DETAIL_{detail}"),
        granularity=debug_pb2.DebugOptions.Granularity.Value(f"GRANULARITY_{granularity}"),
        filter=debug_pb2.StepFilter(
            functions=options.get("functions", ()),
            names=options.get("names", ()),
            line_ranges=[
                debug_pb2.LineRange(first=first, last=last) for first, last in options.get("line_ranges", ())
            ],
            every_nth=options.get("every_nth"),
            max_steps=options.get("max_steps"),
            max_depth=options.get("max_depth"),
        ),
    )
    if "flush_interval" in options:
        found.flush_interval.CopyFrom(duration(options["flush_interval"]))
    return found


async def debug_events(
    transport: Transport, request: execution_service_pb2.DebugRequest, *, deadline: float | None
) -> AsyncIterator[DebugEvent]:
    """The events of a debug run, to the last."""
    reader, decoders = BatchReader(request.code), Decoders()
    async for answer in transport.stream(transport.executions.Debug, request, deadline=deadline):
        for event in _events(answer.event, reader, decoders):
            yield event
            if isinstance(event, DebugFinished):
                return
    raise SandboxdError("the server ended the debug run without its last event")


def _events(found: debug_pb2.DebugEvent, reader: BatchReader, decoders: Decoders) -> Iterator[DebugEvent]:
    match found.WhichOneof("event"):
        case "step":
            yield full_step(found.step)
        case "batch":
            yield from reader.read(found.batch)
        case "started":
            yield DebugStarted(
                execution_id=found.started.execution_id,
                executable_lines=tuple(found.started.executable_lines),
            )
        case "stdout":
            yield _output("stdout", found.stdout, decoders)
        case "stderr":
            yield _output("stderr", found.stderr, decoders)
        case "log_entry":
            yield DebugLogged(entry=from_wire.log_entry(found.log_entry))
        case "inspected_variable":
            yield DebugLogged(entry=from_wire.inspected(found.inspected_variable))
        case "finished":
            yield finished(found.finished)


def _output(
    stream: Literal["stdout", "stderr"], found: debug_pb2.DebugOutput, decoders: Decoders
) -> DebugOutput:
    return DebugOutput(
        stream=stream,
        data=found.data,
        text=decoders.decode(stream, found.data),
        offset=found.offset,
        dropped_bytes=found.dropped_bytes,
    )


def finished(found: debug_pb2.DebugFinished) -> DebugFinished:
    """The end of a debug run."""
    summary = found.summary
    return DebugFinished(
        result=from_wire.result_of(found.execution),
        summary=DebugSummary(
            step_count=summary.step_count,
            recorded_step_count=summary.recorded_step_count,
            left_out_step_count=summary.left_out_step_count,
            call_count=summary.call_count,
            exception_count=summary.exception_count,
            tracing_interrupted=summary.tracing_interrupted,
            notes=tuple(summary.notes),
            engine=summary.engine,
        ),
    )
