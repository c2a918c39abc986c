"""Where a program is to stop next: breakpoints, steps, exceptions."""

import types
from collections.abc import Iterable
from dataclasses import dataclass, field

from sandboxd.channel.debug import Breakpoint, ExceptionStops, ResumeMode
from sandboxd.guest.debug.frames import FrameState
from sandboxd.guest.debug.options import EXCEPTION, LINE, RETURN, UNWIND
from sandboxd.guest.debug.steps import Step

ENTRY, STEP, BREAKPOINT, EXCEPTION_RAISED, PAUSE, LINE_REACHED, START_OF_TRACE = range(1, 8)
"""`Stopped.Reason` on the wire."""


@dataclass(slots=True, kw_only=True)
class ArmedBreakpoint:
    """A breakpoint in force."""

    line: int
    condition: types.CodeType | None
    hit_count: int
    log_message: str
    hits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What became of a breakpoint that was asked for."""

    line: int
    verified: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a program stops."""

    reason: int
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Stepping:
    """Decides at each step whether it is a stop. Knows nothing of messages."""

    executable_lines: frozenset[int]
    breakpoints: dict[int, ArmedBreakpoint] = field(default_factory=dict)
    exception_stops: ExceptionStops = "never"
    mode: ResumeMode = "continue"
    target: FrameState | None = None
    """The frame that was left off in."""
    target_line: int = 0
    thread: int = 0
    target_left: bool = False
    pause: bool = False
    label: str = ""
    """Breakpoints hold in this text only, not in functions of earlier executions."""

    def set_breakpoints(self, wanted: Iterable[Breakpoint]) -> list[Verified]:
        """Replaces the breakpoints; tells of each where it came to lie."""
        self.breakpoints = {}
        return [self._arm(each) for each in wanted]

    def _arm(self, wanted: Breakpoint) -> Verified:
        later = [line for line in self.executable_lines if line >= wanted.line]
        if not later or wanted.line < 1:
            return Verified(line=wanted.line, verified=False, message="no code is on this line or after it")
        line = min(later)
        condition = None
        if wanted.condition:
            try:
                condition = compile(wanted.condition.strip(), "<condition>", "eval", dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                return Verified(line=line, verified=False, message=f"the condition is no expression: {error}")
        self.breakpoints[line] = ArmedBreakpoint(
            line=line, condition=condition, hit_count=max(wanted.hit_count, 1), log_message=wanted.log_message
        )
        return Verified(line=line, verified=True)

    def resume(self, mode: ResumeMode, state: FrameState, line: int, *, at_end: bool = False) -> None:
        """Sets what the next stop is, seen from a stop in `state`, `at_end` when its call is over."""
        self.mode = "over" if at_end and mode == "out" else mode
        self.target = state
        self.target_line = line
        self.thread = state.thread
        self.target_left = at_end
        self.pause = False

    def stop_at(self, step: Step, frame: types.FrameType) -> Stop | ArmedBreakpoint | None:
        """Whether `step` is a stop; a breakpoint that only logs is returned itself."""
        event, state = step[1], step[2]
        if event == LINE:
            found = self.at_breakpoint(step[0], state.plan.source.label, frame)
            if isinstance(found, Stop):
                return found
            return Stop(reason=PAUSE) if self.pause else self._stepped(step, state) or found
        if event == EXCEPTION and self.is_exception_stop(frame):
            return Stop(reason=EXCEPTION_RAISED)
        if event in (RETURN, UNWIND) and state is self.target:
            return self._left()
        return None

    def is_exception_stop(self, frame: types.FrameType) -> bool:
        """Whether an exception raised in `frame` is a stop."""
        if self.exception_stops == "uncaught":
            return not _is_caught(frame)
        return self.exception_stops == "raised"

    def _left(self) -> Stop | None:
        self.target_left = True
        return Stop(reason=STEP) if self.mode in ("out", "to_line") else None

    def _stepped(self, step: Step, state: FrameState) -> Stop | None:
        if self.mode == "continue":
            return None
        if self.mode == "to_line":
            reached = step[0] == self.target_line and state.plan.source.label == self.label
            return Stop(reason=LINE_REACHED) if reached and self._may_be_reached_in(state) else None
        if state.thread != self.thread:
            return None
        if self.mode == "into":
            return Stop(reason=STEP)
        if self.mode == "over" and (state is self.target or (self.target_left and self._is_caller(state))):
            return Stop(reason=STEP)
        return None

    def _may_be_reached_in(self, state: FrameState) -> bool:
        """A line of the function itself is meant in this call of it, not in one that it makes."""
        target = self.target
        return target is None or state is target or self.target_line not in target.plan.statements

    def _is_caller(self, state: FrameState) -> bool:
        caller = self.target.caller if self.target is not None else None
        while caller is not None:
            if caller is state:
                return True
            caller = caller.caller
        return False

    def at_breakpoint(self, line: int, label: str, frame: types.FrameType) -> Stop | ArmedBreakpoint | None:
        """Whether a breakpoint is at the statement, and stops or logs this time."""
        armed = self.breakpoints.get(line)
        if armed is None or label != self.label:
            return None
        note = ""
        if armed.condition is not None:
            try:
                if not eval(armed.condition, frame.f_globals, dict(frame.f_locals)):
                    return None
            except Exception as error:
                note = f"the condition of line {line} failed: {type(error).__name__}"
        armed.hits += 1
        if armed.hits < armed.hit_count:
            return None
        if armed.log_message:
            return armed
        return Stop(reason=BREAKPOINT, note=note)


def _is_caught(frame: types.FrameType) -> bool:
    """Whether a handler of user code is around the place, in this frame or one that called it.

    The interpreter's own tables say where handlers are; one that catches only other types counts too.
    """
    label = frame.f_code.co_filename
    current: types.FrameType | None = frame
    while current is not None:
        if current.f_code.co_filename == label and _has_handler(current.f_code, current.f_lasti):
            return True
        current = current.f_back
    return False


def _has_handler(code: types.CodeType, at: int) -> bool:
    import dis

    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        if entry.start <= at < entry.end and not entry.lasti:
            return _is_except(code, entry.target)
    return False


def _is_except(code: types.CodeType, target: int) -> bool:
    """Whether the handler at `target` is an `except`, and not a `finally` or the end of a `with`."""
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.offset >= target and instruction.opname in (
            "CHECK_EXC_MATCH",
            "CHECK_EG_MATCH",
            "POP_EXCEPT",
        ):
            return True
        if instruction.offset >= target and instruction.opname in ("RERAISE", "WITH_EXCEPT_START"):
            return False
    return False
