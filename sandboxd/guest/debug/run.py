"""One debug run: puts recorder, hook, trace and control together around a prepared program."""

import builtins
import contextlib
import linecache
import sys
import types
from typing import Any

from sandboxd.channel import debug
from sandboxd.guest.debug.control import Control, Line
from sandboxd.guest.debug.full_stream import FullStream
from sandboxd.guest.debug.hooks import Hook, make_hook
from sandboxd.guest.debug.judge import BadExpression
from sandboxd.guest.debug.loops import NoSuchLoop
from sandboxd.guest.debug.options import StepFilter, TraceOptions
from sandboxd.guest.debug.plan import VALUE_HOOK, SourcePlan, executable_lines
from sandboxd.guest.debug.queries import QueryFailed, answer
from sandboxd.guest.debug.query import QueryLimits
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.stepping import Stepping
from sandboxd.guest.debug.steps import Rows
from sandboxd.guest.debug.stop_report import breakpoints_set
from sandboxd.guest.debug.trace import Trace
from sandboxd.guest.debug.values import ValueLimits
from sandboxd.guest.debug.wire import join, number_field, text_field

_get_frame = sys._getframe
_USER_LABEL = "<execution "


class DebugRun:
    """Traces one program. `start` before its first line, `stop` after its last."""

    def __init__(
        self,
        *,
        run_id: int,
        settings: debug.DebugSettings,
        source: SourcePlan,
        code: types.CodeType,
        line: Line,
        stdout: list[int] | None = None,
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        """`stdout` holds the number of bytes written to stdout, kept up to date by who writes."""
        self.run_id = run_id
        self._settings = settings
        self._source = source
        self._code = code
        self._line = line
        self._earlier: dict[str, SourcePlan | None] = {source.label: source}
        self._streams = streams = settings.stream_steps and settings.detail != "summary"
        full = settings.detail == "full"
        self.trace = Trace(
            max_bytes=settings.trace_bytes,
            send=self._send_batch if streams and not full else None,
            keep=settings.record_trace or settings.interactive,
        )
        self.trace.source_text = "\n".join(source.lines)
        self.recorder = Recorder(
            options=trace_options(settings, streams=streams),
            sink=self,
            sources=self._source_of,
            stdout=[0] if stdout is None else stdout,
            hidden=hidden,
        )
        self.trace.recorder = self.recorder
        self._full = FullStream(self.recorder, self._send_full) if streams and full else None
        self._hook: Hook = make_hook(self.recorder)
        self._control: Control | None = None
        self._stopped = self._told = False

    @property
    def engine(self) -> str:
        """How it is traced."""
        return self._hook.engine

    def start(self) -> None:
        """Begins to trace."""
        lines = executable_lines(self._code, self._source, by_line=self._settings.by_line)
        self.trace.executable_lines = lines
        self._line.send(
            debug.DebugStarted(run_id=self.run_id, executable_lines=sorted(lines), engine=self.engine)
        )
        if self._settings.interactive:
            stepping = Stepping(
                executable_lines=lines,
                exception_stops=self._settings.exception_stops,
                label=self._source.label,
            )
            placed = stepping.set_breakpoints(self._settings.breakpoints)
            if self._settings.breakpoints:
                self._line.send(
                    debug.CommandDone(command_id=0, kind="breakpoints_set", payload=breakpoints_set(placed))
                )
            self._control = self.recorder.control = Control(
                run_id=self.run_id,
                line=self._line,
                trace=self.trace,
                recorder=self.recorder,
                stepping=stepping,
                stop_at_entry=self._settings.stop_at_entry,
                breakpoints_only=not self._settings.record_trace and not self._settings.stream_steps,
                streams=self._settings.stream_steps,
            )
            self._control.install()
        self._hook.start()
        self._hook.watch(self._code)
        if self._control is not None:
            self._control.rest()

    def stop(self) -> None:
        """Ends tracing and tells the host what was recorded."""
        if not self._stopped:
            self._stopped = True
            self._hook.stop()
            if self._control is not None:
                self._control.remove()
        if self._streams or self.trace.step_count:
            self.recorder.flush()  # the few steps of a short run the trace takes when it is asked
        if self._told:
            return
        self._told = True
        self._line.send(debug.DebugEnded(run_id=self.run_id, summary=self.summary()))

    def value_hook(self, value: Any) -> Any:
        """What expression statements pass their value through."""
        self.recorder.expression(_get_frame(1), value)
        return value

    def take(self, rows: Rows) -> None:
        """Takes the recorder's steps."""
        if self._full is not None:
            self._full.take(rows)
        self.trace.take(rows)

    def summary(self) -> bytes:
        """`DebugSummary` bytes."""
        recorder = self.recorder
        notes = []
        if recorder.limit_reached:
            notes.append(f"steps after {recorder.recorded_count}: raise filter.max_steps")
        if self.trace.dropped_steps:
            notes.append(f"steps 1 to {self.trace.dropped_steps} are no longer kept for queries")
        # An interrupt may leave through the tracer, which Python then takes off: that is nobody's doing.
        interrupted = self._hook.interrupted and not self._line.interrupted
        if interrupted:
            notes.append("tracing ended early: user code removed the tracer, or met the recursion limit")
        if recorder.missed_count:
            notes.append(f"{recorder.missed_count} steps could not be recorded: {recorder.fault}")
        if recorder.left_out_changes:
            notes.append(
                f"{recorder.left_out_changes} variables: raise value_limits or name them in filter.names"
            )
        return join(
            (
                number_field(1, recorder.step_count),
                number_field(2, recorder.recorded_count),
                number_field(3, recorder.filtered_count),
                number_field(4, recorder.missed_count),
                number_field(5, recorder.left_out_changes),
                number_field(6, recorder.call_count),
                number_field(7, recorder.exception_count),
                number_field(8, recorder.tracking.thread_count),
                number_field(9, interrupted),
                *(text_field(10, note) for note in notes),
                text_field(11, self.engine),
            )
        )

    def _send_batch(self, payload: bytes, step_count: int) -> None:
        self._line.send(debug.DebugSteps(run_id=self.run_id, payloads=[payload], step_count=step_count))

    def _send_full(self, payloads: list[bytes]) -> None:
        self._line.send(
            debug.DebugSteps(run_id=self.run_id, payloads=payloads, step_count=len(payloads), full=True)
        )

    def _source_of(self, label: str) -> SourcePlan | None:
        """Functions of earlier executions are user code too; their text is where tracebacks find it."""
        if label not in self._earlier:
            self._earlier[label] = _earlier_source(label) if label.startswith(_USER_LABEL) else None
        return self._earlier[label]


def _earlier_source(label: str) -> SourcePlan | None:
    import ast

    text = "".join(linecache.getlines(label))
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return SourcePlan(text, ast.parse(text), label)
    return None


def trace_options(settings: debug.DebugSettings, *, streams: bool) -> TraceOptions:
    """The host's settings as the engine's options; `streams` says that somebody waits for the steps."""
    return TraceOptions(
        detail=settings.detail,
        by_line=settings.by_line,
        filter=StepFilter(
            functions=frozenset(settings.functions),
            line_ranges=tuple(settings.line_ranges),
            names=frozenset(settings.names),
            events=frozenset(settings.events),
            every_nth=settings.every_nth,
            max_steps=settings.max_steps,
            max_depth=settings.max_depth,
        ),
        values=ValueLimits(
            max_string=settings.max_string,
            max_items=settings.max_items,
            max_depth=settings.max_nesting,
            max_nodes=settings.max_nodes,
            max_variables=settings.max_variables,
        ),
        batch_steps=settings.batch_steps,
        flush_interval_ns=settings.flush_interval_ms * 1_000_000 if streams else None,
    )


def answer_query(trace: Trace | None, asked: debug.QueryTrace) -> debug.CommandDone:
    """The answer to a question about `trace`."""
    number = asked.command_id
    if trace is not None:
        trace.catch_up()
    if trace is None or not trace.step_count:
        return debug.CommandDone(
            command_id=number, kind="refused", reason="NO_TRACE", message="no trace is kept"
        )
    limits = QueryLimits(max_entries=asked.max_entries, max_characters=asked.max_characters)
    try:
        payload = answer(trace, asked.question, limits)
    except (QueryFailed, NoSuchLoop) as error:
        return _refused(number, "NOT_IN_TRACE", error)
    except BadExpression as error:
        return _refused(number, "BAD_EXPRESSION", error)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return _refused(number, "TRACE_UNREADABLE", error)
    return debug.CommandDone(command_id=number, kind="trace_answer", payload=payload)


def _refused(number: int, reason: str, error: Exception) -> debug.CommandDone:
    return debug.CommandDone(command_id=number, kind="refused", reason=reason, message=str(error))


def install_value_hook(namespace: dict[str, Any], run: DebugRun) -> None:
    """Lets expression statements of this run find the tracer among the builtins."""
    found = namespace.get("__builtins__", builtins)
    table = found if isinstance(found, dict) else vars(found)
    table[VALUE_HOOK] = run.value_hook
