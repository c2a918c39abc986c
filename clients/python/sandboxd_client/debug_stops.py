"""Breakpoints, and what a stopped debug run tells."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sandboxd_api.v1 import debug_session_pb2

from sandboxd_client import from_wire
from sandboxd_client.debug_steps import StackFrame, StepVariable, stack_frame, step_variable
from sandboxd_client.debug_values import debug_natural
from sandboxd_client.options import word_of
from sandboxd_client.results import ExecutionError, Output

_EXCEPTIONS = ("never", "uncaught", "raised")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakpoint:
    """A place where to stop."""

    line: int
    condition: str = ""
    """Stops only when this expression is true in the frame."""
    hit_count: int | None = None
    """Stops only from the n-th hit on."""
    log_message: str = ""
    """Writes this to the debug log in place of stopping; `{expression}` parts are filled in."""

    def to_wire(self) -> debug_session_pb2.Breakpoint:
        """As it goes over the wire."""
        return debug_session_pb2.Breakpoint(
            line=self.line,
            condition=self.condition,
            hit_count=self.hit_count,
            log_message=self.log_message,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBreakpoint:
    """What became of a breakpoint."""

    verified: bool
    line: int
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Where a run has stopped, and what a reader usually asks for next."""

    reason: str
    """`entry`, `step`, `breakpoint`, `exception`, `pause`, `line_reached` or `start_of_trace`."""
    step: int
    line: int
    source: tuple[tuple[int, str], ...]
    """The code around it: number and text of each line."""
    stack: tuple[StackFrame, ...]
    """Outermost first."""
    changed: dict[str, StepVariable]
    """What changed since the last stop; all of the frame at its first stop."""
    stdout: Output
    stderr: Output
    exception: ExecutionError | None
    has_result: bool
    result: Any
    in_the_past: bool
    thread: int
    remaining_time: timedelta
    left_out: tuple[str, ...]

    @property
    def function(self) -> str:
        """The innermost function."""
        return self.stack[-1].function if self.stack else ""

    def __str__(self) -> str:
        changes = ", ".join(f"{item.name}={item.text}" for item in self.changed.values())
        text = next((text for number, text in self.source if number == self.line), "")
        return f"{self.reason} at line {self.line}: {text.strip()}  {changes}".rstrip()


def breakpoint_of(item: Breakpoint | int) -> debug_session_pb2.Breakpoint:
    """A breakpoint, or a line, as it goes over the wire."""
    return (Breakpoint(line=item) if isinstance(item, int) else item).to_wire()


def exceptions_of(which: str) -> Any:
    """Which exceptions to stop at, as it goes over the wire."""
    word = word_of(which, _EXCEPTIONS, field="exceptions")
    return debug_session_pb2.ExceptionBreakpoint.Value(f"EXCEPTION_BREAKPOINT_{word}")


def stopped_of(found: debug_session_pb2.Stopped) -> Stopped:
    """A stop."""
    return Stopped(
        reason=from_wire.word(debug_session_pb2.Stopped.Reason, found.reason, "REASON_"),
        step=found.step,
        line=found.line,
        source=tuple((item.line, item.text) for item in found.source),
        stack=tuple(stack_frame(frame) for frame in found.stack),
        changed={item.name: step_variable(item) for item in found.changed_variables},
        stdout=from_wire.output(found.stdout),
        stderr=from_wire.output(found.stderr),
        exception=from_wire.failure(found.exception) if found.HasField("exception") else None,
        has_result=found.HasField("result"),
        result=debug_natural(found.result) if found.HasField("result") else None,
        in_the_past=found.in_the_past,
        thread=found.thread,
        remaining_time=from_wire.span(found.remaining_time),
        left_out=tuple(found.left_out),
    )
