"""Questions about the recorded trace of a debug run, during the run and after it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sandboxd_api.v1 import trace_pb2

from sandboxd_client.debug_steps import (
    DebugStep,
    StackFrame,
    StepVariable,
    full_step,
    stack_frame,
    step_variable,
)
from sandboxd_client.debug_values import debug_natural, debug_text

Ask: TypeAlias = Callable[[trace_pb2.TraceQuery], Awaitable[trace_pb2.TraceAnswer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceState:
    """The full state before a step."""

    step: DebugStep
    frames: tuple[tuple[StackFrame, Mapping[str, StepVariable]], ...]
    """Each frame with its variables, outermost first."""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceChange:
    """A change of one variable."""

    step: int
    line: int
    """The line that changed it."""
    source_line: str
    function: str
    name: str
    before: Any
    after: Any
    text: str
    """Such as `1 -> 2`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceChanges:
    """Changes of one variable, in order."""

    changes: tuple[TraceChange, ...]
    total_count: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceMatch:
    """The first step where an expression is true."""

    step: DebugStep | None
    """None when there is none."""
    undecided_step_count: int
    """Steps at which the expression could not be judged."""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceCall:
    """One call of a function."""

    first_step: int
    last_step: int
    """0 when it was not left."""
    arguments: Mapping[str, StepVariable]
    returned: bool
    result: Any
    result_text: str
    exception: str
    depth: int
    caller_line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceCalls:
    """Calls of a function, in order."""

    calls: tuple[TraceCall, ...]
    total_count: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLines:
    """Lines that could be reached but were not."""

    not_reached: tuple[tuple[int, int], ...]
    """Ranges, both ends included."""
    executable_count: int
    reached_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPass:
    """One pass of a loop."""

    number: int
    first_step: int
    changes: Mapping[str, StepVariable]
    """Variables that changed in it, with the value at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLoop:
    """The first and last passes of a loop."""

    first_line: int
    last_line: int
    pass_count: int
    first_passes: tuple[LoopPass, ...]
    last_passes: tuple[LoopPass, ...]
    left_out: tuple[str, ...] = ()


class Trace:
    """A recorded trace. Answers are bounded; their `left_out` says what is missing and how to get it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def state_at(self, step: int) -> TraceState:
        """The full state before a step."""
        query = trace_pb2.TraceQuery(state_at_step=trace_pb2.TraceQuery.StateAtStep(step=step))
        answer = await self._ask(query)
        frames = tuple(
            (stack_frame(item.frame), {found.name: step_variable(found) for found in item.variables})
            for item in answer.state.frames
        )
        return TraceState(step=full_step(answer.state.step), frames=frames, left_out=tuple(answer.left_out))

    async def when_changed(
        self,
        name: str,
        *,
        function: str = "",
        from_step: int = 0,
        to_step: int = 0,
        max_entries: int | None = None,
    ) -> TraceChanges:
        """When a variable changed; only in `function`, where one is named."""
        query = trace_pb2.TraceQuery(
            when_changed=trace_pb2.TraceQuery.WhenChanged(
                name=name, function=function, from_step=from_step, to_step=to_step
            ),
            max_entries=max_entries,
        )
        return _changes(await self._ask(query))

    async def last_write(self, name: str, *, before_step: int = 0, function: str = "") -> TraceChange | None:
        """The last change of a variable before a step, 0 being the end; None when there is none."""
        asked = trace_pb2.TraceQuery.LastWrite(name=name, before_step=before_step, function=function)
        changes = _changes(await self._ask(trace_pb2.TraceQuery(last_write=asked))).changes
        return changes[-1] if changes else None

    async def first_where(self, expression: str, *, from_step: int = 0, function: str = "") -> TraceMatch:
        """The first step where an expression over recorded values is true; nothing runs for it."""
        asked = trace_pb2.TraceQuery.FirstWhere(expression=expression, from_step=from_step, function=function)
        answer = await self._ask(trace_pb2.TraceQuery(first_where=asked))
        return TraceMatch(
            step=full_step(answer.match.step) if answer.match.found else None,
            undecided_step_count=answer.match.undecided_step_count,
            left_out=tuple(answer.left_out),
        )

    async def calls(self, function: str, *, max_entries: int | None = None) -> TraceCalls:
        """Calls of a function with arguments and results."""
        query = trace_pb2.TraceQuery(
            calls=trace_pb2.TraceQuery.Calls(function=function), max_entries=max_entries
        )
        answer = await self._ask(query)
        return TraceCalls(
            calls=tuple(_call(found) for found in answer.calls.calls),
            total_count=answer.calls.total_count,
            left_out=tuple(answer.left_out),
        )

    async def lines_not_reached(self) -> TraceLines:
        """Lines that were never reached."""
        query = trace_pb2.TraceQuery(lines_not_reached=trace_pb2.TraceQuery.LinesNotReached())
        lines = (await self._ask(query)).lines
        return TraceLines(
            not_reached=tuple((found.first, found.last) for found in lines.not_reached),
            executable_count=lines.executable_count,
            reached_count=lines.reached_count,
        )

    async def loop(self, line: int, *, pass_count: int | None = None) -> TraceLoop:
        """The first and last passes of the loop that `line` is in."""
        asked = trace_pb2.TraceQuery.LoopSummary(line=line, pass_count=pass_count)
        answer = await self._ask(trace_pb2.TraceQuery(loop_summary=asked))
        found = answer.loop
        return TraceLoop(
            first_line=found.first_line,
            last_line=found.last_line,
            pass_count=found.pass_count,
            first_passes=tuple(_pass(item) for item in found.first_passes),
            last_passes=tuple(_pass(item) for item in found.last_passes),
            left_out=tuple(answer.left_out),
        )

    async def text(
        self,
        *,
        from_step: int = 0,
        to_step: int = 0,
        with_source: bool = False,
        max_characters: int | None = None,
    ) -> str:
        """The trace as text, a line a step: `line name=value`."""
        query = trace_pb2.TraceQuery(
            text=trace_pb2.TraceQuery.TraceText(
                from_step=from_step, to_step=to_step, with_source=with_source
            ),
            max_characters=max_characters,
        )
        return _text(await self._ask(query))

    async def failure_report(
        self, *, change_count: int | None = None, max_characters: int | None = None
    ) -> str:
        """What led to the failure: its line, frames with variables, last changes of the names in it."""
        query = trace_pb2.TraceQuery(
            failure_report=trace_pb2.TraceQuery.FailureReport(change_count=change_count),
            max_characters=max_characters,
        )
        return _text(await self._ask(query))


def _text(answer: trace_pb2.TraceAnswer) -> str:
    return "\n".join([answer.text.text, *answer.left_out])


def _changes(answer: trace_pb2.TraceAnswer) -> TraceChanges:
    return TraceChanges(
        changes=tuple(_change(found) for found in answer.changes.changes),
        total_count=answer.changes.total_count,
        left_out=tuple(answer.left_out),
    )


def _change(found: trace_pb2.TraceChange) -> TraceChange:
    return TraceChange(
        step=found.step,
        line=found.line,
        source_line=found.source_line,
        function=found.function,
        name=found.name,
        before=debug_natural(found.before) if found.HasField("before") else None,
        after=debug_natural(found.after) if found.HasField("after") else None,
        text=found.text,
    )


def _call(found: trace_pb2.TraceCall) -> TraceCall:
    returned = found.HasField("result")
    return TraceCall(
        first_step=found.first_step,
        last_step=found.last_step,
        arguments={item.name: step_variable(item) for item in found.arguments},
        returned=returned,
        result=debug_natural(found.result) if returned else None,
        result_text=debug_text(found.result) if returned else "",
        exception=found.exception,
        depth=found.depth,
        caller_line=found.caller_line,
    )


def _pass(found: trace_pb2.TraceLoop.LoopPass) -> LoopPass:
    return LoopPass(
        number=found.number,
        first_step=found.first_step,
        changes={item.name: step_variable(item) for item in found.changes},
    )
