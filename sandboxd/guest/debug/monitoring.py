"""The hook from CPython 3.12 on: sys.monitoring, set on user code only."""

import dis
import sys
import types
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.plan import is_skipped
from sandboxd.guest.debug.quick import make_line
from sandboxd.guest.debug.recorder import Recorder

_TOOL_NAME = "sandboxd"
_get_frame = sys._getframe


class MonitoringHook:
    """Watches by sys.monitoring; library code pays nothing but for exceptions it raises."""

    engine = "sys.monitoring"

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._line = make_line(recorder)
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # from 3.12 on
        self._tool: int = self._monitoring.DEBUGGER_ID
        self._codes: list[types.CodeType] = []
        self._guarded: dict[str, Callable[..., Any]] = {}
        self._interrupted = False
        self._only: frozenset[int] | None = None
        self._jumps: dict[int, frozenset[int]] = {}
        events = self._monitoring.events
        self._local_events = (
            events.LINE | events.PY_START | events.PY_RETURN | events.PY_YIELD | events.PY_RESUME
        )
        self._global_events = events.PY_START | events.RAISE | events.PY_UNWIND | events.PY_THROW

    @property
    def interrupted(self) -> bool:
        return self._interrupted

    def start(self) -> None:
        monitoring = self._monitoring
        monitoring.use_tool_id(self._tool, _TOOL_NAME)
        events = monitoring.events
        for event, callback in (
            (events.LINE, self._line_callback()),
            (events.PY_START, self._on_start),
            (events.PY_RETURN, self._on_return),
            (events.PY_YIELD, self._on_yield),
            (events.PY_RESUME, self._on_resume),
            (events.PY_THROW, self._for_user_code(self._thrown)),
            (events.RAISE, self._for_user_code(self._raised)),
            (events.PY_UNWIND, self._for_user_code(self._unwound)),
            (events.JUMP, self._on_jump),
            (events.BRANCH, self._on_jump),
        ):
            monitoring.register_callback(self._tool, event, callback)
        self._recorder.stop_tracing = self._end_events
        self._recorder.watch_only = self.watch_only
        monitoring.set_events(self._tool, self._global_events)
        # Library functions whose start was once declined stay declined: cheap, and still right.
        self._guard()

    def watch(self, code: types.CodeType) -> None:
        """Sets the events on `code` and the code in it, before it runs."""
        waiting = [code]
        while waiting:
            current = waiting.pop()
            waiting += [item for item in current.co_consts if isinstance(item, types.CodeType)]
            if is_skipped(current):
                continue
            self._watch_one(current)

    def watch_only(self, lines: frozenset[int] | None) -> None:
        """Other lines are disabled at their first visit, and then cost nothing."""
        monitoring = self._monitoring
        self._only = lines
        if monitoring.get_tool(self._tool) != _TOOL_NAME:
            return
        on_line = self._line_callback() if lines is None else self._on_watched_line
        monitoring.register_callback(self._tool, monitoring.events.LINE, on_line)
        if lines is None:
            monitoring.set_events(self._tool, self._global_events)
            for code in self._codes:
                jumps = monitoring.events.JUMP | monitoring.events.BRANCH if id(code) in self._jumps else 0
                monitoring.set_local_events(self._tool, code, self._local_events | jumps)
            monitoring.restart_events()
            return
        control = self._recorder.control
        awaits = control is not None and control.awaits_exceptions
        monitoring.set_events(self._tool, monitoring.events.RAISE if awaits else 0)
        for code in self._codes:
            plan = self._recorder.tracking.plan_for(code)
            holds = plan is not None and not lines.isdisjoint(plan.statements)
            monitoring.set_local_events(self._tool, code, monitoring.events.LINE if holds else 0)
        monitoring.restart_events()

    def stop(self) -> None:
        monitoring = self._monitoring
        self._unguard()
        if monitoring.get_tool(self._tool) != _TOOL_NAME:
            self._interrupted = True
            return
        if (
            not self._recorder.limit_reached
            and self._only is None
            and (
                monitoring.get_events(self._tool) != self._global_events
                or any(not monitoring.get_local_events(self._tool, code) for code in self._codes)
            )
        ):
            self._interrupted = True
        self._end_events()
        monitoring.free_tool_id(self._tool)

    def _watch_one(self, code: types.CodeType) -> None:
        events = self._local_events
        jumps = _one_line_jumps(code, self._recorder.tracking.plan_for(code))
        if jumps:
            self._jumps[id(code)] = jumps
            events |= self._monitoring.events.JUMP | self._monitoring.events.BRANCH
        self._codes.append(code)
        self._monitoring.set_local_events(self._tool, code, events)

    def _end_events(self) -> None:
        monitoring = self._monitoring
        if monitoring.get_tool(self._tool) != _TOOL_NAME:
            return
        self._unguard()
        monitoring.set_events(self._tool, 0)
        for code in self._codes:
            monitoring.set_local_events(self._tool, code, 0)

    # --- callbacks ----------------------------------------------------------------------------

    def _line_callback(self) -> Callable[[types.CodeType, int], Any]:
        record, get_frame = self._line, _get_frame

        def on_line(_code: types.CodeType, line: int) -> None:
            record(get_frame(1), line)

        return on_line

    def _on_watched_line(self, code: types.CodeType, line: int) -> Any:
        """While only some statements are looked at."""
        if not self._is_hit(code, line, _get_frame(1)):
            return None if self._holds(code, line) else self._monitoring.DISABLE
        self._recorder.line(_get_frame(1), line)
        return None

    def _holds(self, code: types.CodeType, line: int) -> bool:
        plan = self._recorder.tracking.plan_for(code)
        return plan is not None and self._only is not None and plan.statement_at(line) in self._only

    def _is_hit(self, code: types.CodeType, line: int, frame: types.FrameType) -> bool:
        plan, control = self._recorder.tracking.plan_for(code), self._recorder.control
        if plan is None or control is None or not self._holds(code, line):
            return False
        return control.hits(plan.statement_at(line), plan.source.label, frame)

    def _on_start(self, code: types.CodeType, _offset: int) -> Any:
        plan = self._recorder.tracking.plan_for(code)
        if plan is None:
            return self._monitoring.DISABLE
        if not self._monitoring.get_local_events(self._tool, code):
            self._watch_one(code)
        self._recorder.enter(_get_frame(1))
        return None

    def _on_return(self, _code: types.CodeType, _offset: int, value: Any) -> Any:
        self._recorder.leave(_get_frame(1), value)

    def _on_yield(self, _code: types.CodeType, _offset: int, value: Any) -> Any:
        self._recorder.suspend(_get_frame(1), value)

    def _on_resume(self, _code: types.CodeType, _offset: int) -> Any:
        self._recorder.resume(_get_frame(1))

    def _for_user_code(self, take: Callable[..., None]) -> Callable[..., None]:
        """`take`, for an event that cannot be asked of user code alone: libraries raise often, so theirs
        cost one look."""
        plan_for, plan_of = self._recorder.tracking.plan_for, self._recorder.tracking.plans.get

        def on_event(code: types.CodeType, _offset: int, error: BaseException) -> None:
            if plan_of(id(code), code) is not None and plan_for(code) is not None:
                take(_get_frame(1), error)

        return on_event

    def _raised(self, frame: types.FrameType, error: BaseException) -> None:
        if self._only is not None:
            self._recorder.raised_unwatched(frame, error, _traceback_of(error))
        elif self._recorder.state_of(frame) is not None:
            self._recorder.raised(frame, error, _traceback_of(error))

    def _unwound(self, frame: types.FrameType, error: BaseException) -> None:
        if self._recorder.state_of(frame) is not None:
            self._recorder.unwind(frame, self._recorder.picture(error))

    def _thrown(self, frame: types.FrameType, _error: BaseException) -> None:
        self._recorder.resume(frame, thrown=True)

    def _on_jump(self, code: types.CodeType, offset: int, destination: int) -> Any:
        """A loop on one line has no line event for its second turn."""
        jumps = self._jumps.get(id(code))
        if jumps is None or destination >= offset or offset not in jumps:
            return self._monitoring.DISABLE if destination > offset else None
        frame = _get_frame(1)
        self._recorder.line(frame, frame.f_lineno)
        return None

    # --- self-protection ----------------------------------------------------------------------

    def _guard(self) -> None:
        """Refuses what would silence this tool, and remembers that it was tried."""
        for name in ("free_tool_id", "set_events", "set_local_events", "register_callback", "restart_events"):
            self._guarded[name] = genuine = getattr(self._monitoring, name)
            if name != "restart_events":
                setattr(sys.monitoring, name, self._refusing(genuine))  # type: ignore[attr-defined,unused-ignore]
        self._monitoring = types.SimpleNamespace(
            **{name: getattr(sys.monitoring, name) for name in dir(sys.monitoring)} | self._guarded  # type: ignore[attr-defined,unused-ignore]
        )

    def _refusing(self, genuine: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(tool_id: int, *arguments: Any) -> Any:
            if tool_id == self._tool:
                self._interrupted = True
                raise ValueError(f"tool {tool_id} is not in use")
            return genuine(tool_id, *arguments)

        return guarded

    def _unguard(self) -> None:
        for name, genuine in self._guarded.items():
            setattr(sys.monitoring, name, genuine)  # type: ignore[attr-defined,unused-ignore]


_traceback_of: Callable[[BaseException], Any] = BaseException.__dict__["__traceback__"].__get__


def _one_line_jumps(code: types.CodeType, plan: Any) -> frozenset[int]:
    """Offsets of the backward jumps of loops whose body stands on the line of their head."""
    if plan is None:
        return frozenset()
    lines = plan.source.one_line_loops
    if not lines:
        return frozenset()
    found = set()
    clearing = 0
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name == "LOAD_FAST_AND_CLEAR":
            clearing += 1
        elif clearing and name in ("END_FOR", "SWAP") and name == "END_FOR":
            clearing = 0
        line = instruction.positions.lineno if instruction.positions else None
        backward = isinstance(instruction.argval, int) and instruction.argval < instruction.offset
        if not clearing and line in lines and "JUMP" in name and backward:
            found.add(instruction.offset)
    return frozenset(found)
