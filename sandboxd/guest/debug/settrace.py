"""The hook for CPython 3.11: sys.settrace."""

import dis
import sys
import threading
import types
from typing import Any

from sandboxd.guest.debug.quick import make_line
from sandboxd.guest.debug.recorder import Recorder

_GENERATOR_FLAGS = 0x20 | 0x80 | 0x200
"""CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR."""
_RETURN_VALUE = dis.opmap["RETURN_VALUE"]
_YIELD_VALUE = dis.opmap["YIELD_VALUE"]
_RESUME = dis.opmap["RESUME"]
_watching: list["SettraceHook"] = []
_audited = False


def _audit(event: str, _arguments: Any) -> None:
    if event == "sys.settrace" and _watching:
        _watching[-1].note_settrace()


class SettraceHook:
    """Watches by sys.settrace; frames that are no user code are left alone."""

    engine = "sys.settrace"

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._changing = False
        self._interrupted = False
        self._errors: dict[int, bytes] = {}
        """Picture of the exception that is in a frame, by the frame's address."""
        self._line = make_line(recorder)
        self._trace = self._on_call
        self._local = self._make_local()
        self._local_only = self._on_watched
        self._only: frozenset[int] | None = None
        self._only_raw: frozenset[int] = frozenset()
        """The raw lines of those statements, in all code known so far."""

    @property
    def interrupted(self) -> bool:
        return self._interrupted

    def start(self) -> None:
        global _audited  # noqa: PLW0603 an audit hook cannot be taken back
        if not _audited:
            sys.addaudithook(_audit)
            _audited = True
        _watching.append(self)
        self._recorder.stop_tracing = self._end
        self._recorder.watch_only = self.watch_only
        threading.settrace(self._trace)
        self._set(self._trace)

    def watch(self, code: types.CodeType) -> None:
        """Nothing: every call is seen, and code is known by its label."""

    def stop(self) -> None:
        self._interrupted = self._interrupted or (
            sys.gettrace() is not self._trace and not self._recorder.limit_reached
        )
        self._end()
        if self in _watching:
            _watching.remove(self)

    def note_settrace(self) -> None:
        """Somebody calls sys.settrace."""
        if not self._changing and threading.current_thread() is threading.main_thread():
            self._interrupted = True

    def _end(self) -> None:
        threading.settrace(None)
        self._set(None)

    def _set(self, trace: Any) -> None:
        self._changing = True
        try:
            sys.settrace(trace)
        finally:
            self._changing = False

    def _on_call(self, frame: types.FrameType, _event: str, _argument: Any) -> Any:
        recorder = self._recorder
        code = frame.f_code
        plan = recorder.tracking.plan_for(code)
        if plan is None or recorder.limit_reached:
            return None
        if self._only is not None:
            self._only_raw |= {
                raw for raw, statement in enumerate(plan.statement_of) if statement in self._only
            }
            control = recorder.control
            needed = control is not None and control.awaits_exceptions
            return self._local_only if needed or not self._only.isdisjoint(plan.statements) else None
        if code.co_flags & _GENERATOR_FLAGS and recorder.state_of(frame) is not None:
            at = frame.f_lasti
            started = plan.bytecode[at] == _RESUME and not plan.bytecode[at + 1] & 3
            if not started:
                thrown = plan.bytecode[at] != _RESUME
                recorder.resume(frame, thrown=thrown, repeats_line=True)
                return self._local
        recorder.enter(frame)
        return self._local

    def watch_only(self, lines: frozenset[int] | None) -> None:
        """Functions without such a line are left alone; the others still pay for each line."""
        self._only = lines
        self._only_raw = frozenset(
            raw
            for plan in self._recorder.tracking.codes
            for raw, statement in enumerate(plan.statement_of)
            if statement in (lines or ())
        ) | (lines or frozenset())
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None:
            plan = self._recorder.tracking.plan_for(frame.f_code)
            if plan is not None:
                frame.f_trace = self._local if lines is None else self._local_only
            frame = frame.f_back

    def _on_watched(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        if self._only is None:
            return self._local(frame, event, argument)
        if event == "line" and frame.f_lineno not in self._only_raw:
            return self._local_only
        if event == "exception":
            self._recorder.raised_unwatched(frame, argument[1], argument[2])
            return self._local if self._only is None else self._local_only
        plan, control = self._recorder.tracking.plan_for(frame.f_code), self._recorder.control
        if event == "line" and plan is not None and control is not None:
            statement = plan.statement_at(frame.f_lineno)
            if statement in self._only and control.hits(statement, plan.source.label, frame):
                self._recorder.line(frame, frame.f_lineno)
                return self._local
        return self._local_only

    def _make_local(self) -> Any:
        record, other = self._line, self._on_event

        def local(frame: types.FrameType, event: str, argument: Any) -> Any:
            if event == "line":
                record(frame, frame.f_lineno)
            else:
                other(frame, event, argument)
            return local

        return local

    def _on_event(self, frame: types.FrameType, event: str, argument: Any) -> None:
        recorder = self._recorder
        if event == "return":
            self._on_return(frame, argument)
        elif event == "exception":
            self._errors[id(frame)] = recorder.picture(argument[1])
            recorder.raised(frame, argument[1], argument[2])

    def _on_return(self, frame: types.FrameType, value: Any) -> None:
        plan = self._recorder.tracking.plan_for(frame.f_code)
        operation = plan.bytecode[frame.f_lasti] if plan is not None else _RETURN_VALUE
        if operation == _RETURN_VALUE:
            self._recorder.leave(frame, value)
        elif operation == _YIELD_VALUE and not self._thrown_at_yield(frame, value):
            self._recorder.suspend(frame, value)
        else:
            self._recorder.unwind(frame, self._errors.pop(id(frame), None))

    def _thrown_at_yield(self, frame: types.FrameType, value: Any) -> bool:
        """Whether the frame is left by an exception that was thrown in at its yield."""
        state = self._recorder.state_of(frame)
        return value is None and state is not None and state.thrown
