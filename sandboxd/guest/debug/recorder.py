"""Turns what a hook sees into steps."""

import time
import types
from _thread import RLock
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.differ import INTEGER, Change, Differ, as_global
from sandboxd.guest.debug.frames import NEVER, FrameState
from sandboxd.guest.debug.options import (
    CALL,
    EXCEPTION,
    EXPRESSION,
    LINE,
    RESUME,
    RETURN,
    UNWIND,
    YIELD,
    Sieve,
    TraceOptions,
)
from sandboxd.guest.debug.outbox import Outbox
from sandboxd.guest.debug.plan import SourcePlan, StatementPlan
from sandboxd.guest.debug.steps import MANY_CHANGES, NO_CHANGE, ROW, Control, Sink
from sandboxd.guest.debug.tracebacks import came_from, is_origin
from sandboxd.guest.debug.tracking import Tracking
from sandboxd.guest.debug.values import STEP_NODES, Renderer
from sandboxd.guest.debug.watching import watch_all

_clock = time.perf_counter_ns
_NOTHING = StatementPlan()
_ANYTHING = StatementPlan(changes=True, calls=True)


class Recorder:
    """Records the steps of one run. Called by one hook; knows no hook itself."""

    def __init__(
        self,
        *,
        options: TraceOptions,
        sink: Sink,
        sources: Callable[[str], SourcePlan | None],
        stdout: list[int],
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        """`stdout` holds one number: the bytes written to stdout so far."""
        self.options = options
        self.filter = options.filter
        self.renderer = Renderer(options.values)
        self.tracking = Tracking(sources, by_line=options.by_line)
        self.names: dict[str, int] = {}
        self.stdout = stdout
        self.stop_tracing: Callable[[], None] = lambda: None
        """Set by the hook: ends tracing while the program goes on."""
        self.watch_only: Callable[[frozenset[int] | None], None] = lambda _lines: None
        """Set by the hook: from now on only these statements are looked at; None for all again."""
        self.filtered_count = self.call_count = self.exception_count = self.missed_count = 0
        self.fault = ""
        self.limit_reached = False
        self.outbox = Outbox(options, sink, on_fault=self._miss, on_limit=self._end_at_limit)
        self.rows = self.outbox.rows
        self._lock = RLock()
        self._control: Control | None = None
        self._open = options.filter.is_open
        self._passes = Sieve(options.filter).passes
        self._pictures = options.detail in ("delta", "full", "summary")
        self.differ = Differ(
            renderer=self.renderer,
            ids=self.names,
            name_id=self.name_id,
            watched=self.filter.names,
            hidden=hidden,
            shown=options.values.max_items,
            max_variables=options.values.max_variables,
        )

    def name_id(self, name: str) -> int:
        """The id under which `name` goes over the wire, counted from 1."""
        number = self.names.get(name)
        if number is None:
            number = self.names[name] = len(self.names) + 1
        return number

    @property
    def control(self) -> Control | None:
        """Who decides on stops; None when there are none."""
        return self._control

    @control.setter
    def control(self, control: Control | None) -> None:
        self._control = control
        self.tracking.activity += 1  # no frame is quick any more

    @property
    def recorded_count(self) -> int:
        """Steps recorded so far."""
        return self.outbox.taken_count + len(self.rows) // ROW

    @property
    def step_count(self) -> int:
        """Steps seen so far."""
        return self.recorded_count + self.filtered_count + self.missed_count

    @property
    def left_out_changes(self) -> int:
        """Variables that were not looked at, because a budget was spent."""
        return self.differ.left_out + self.renderer.deferred_count

    def state_of(self, frame: types.FrameType) -> FrameState | None:
        """What is known of a frame of user code."""
        return self.tracking.states.get(id(frame))

    # --- events, called by the hook ---------------------------------------------------------

    def line(self, frame: types.FrameType, line: int) -> None:
        """A line of user code is about to run."""
        state = self.tracking.states.get(id(frame))
        if state is None:
            state = self._adopt_in_the_middle(frame)
            if state is None:
                return
        statement = state.statement_of[line]
        if state.statement == statement and (state.resumed or line != state.raw_line):
            state.raw_line = line
            state.resumed = False
            return
        state.resumed = False
        if state.thrown:
            self._resume_thrown(state, frame)
        self._emit(LINE, state, frame, statement, None)
        state.raw_line = line

    def enter(self, frame: types.FrameType) -> None:
        """A function of user code starts."""
        state = self.tracking.adopt(frame)
        if state is not None and not state.plan.is_module:
            self.call_count += 1
            self._emit(CALL, state, frame, state.plan.code.co_firstlineno, None)

    def resume(self, frame: types.FrameType, *, thrown: bool = False, repeats_line: bool = False) -> None:
        """A generator or coroutine goes on; with `thrown`, by an exception."""
        state = self.tracking.states.get(id(frame))
        if state is None:
            self.tracking.adopt(frame)
            return
        self.tracking.push(state)
        state.resumed = repeats_line
        if thrown:
            state.thrown = True
        elif not state.plan.is_module:
            self._emit(RESUME, state, frame, state.statement or state.plan.code.co_firstlineno, None)

    def leave(self, frame: types.FrameType, value: Any) -> None:
        """A function of user code returns `value`."""
        state = self.tracking.states.get(id(frame))
        if state is None:
            return
        if state.thrown:
            self._resume_thrown(state, frame)
        result = None if value is None else self.picture(value)
        self._emit(RETURN, state, frame, state.statement or state.plan.code.co_firstlineno, result)
        self.tracking.forget(state)

    def suspend(self, frame: types.FrameType, value: Any) -> None:
        """A generator or coroutine gives `value` away."""
        state = self.tracking.states.get(id(frame))
        if state is None:
            return
        if state.thrown:
            self._resume_thrown(state, frame)
        if not state.plan.is_module:
            result = None if value is None else self.picture(value)
            self._emit(YIELD, state, frame, state.statement or state.plan.code.co_firstlineno, result)
        self.tracking.pop(state)

    def raised(self, frame: types.FrameType, error: BaseException, traceback: Any) -> None:
        """An exception is in a frame; a step only where it enters user code."""
        state = self.tracking.states.get(id(frame))
        if state is None or not is_origin(frame, traceback):
            return
        self.exception_count += 1
        self._emit(EXCEPTION, state, frame, state.statement, self.picture(error))

    def raised_unwatched(self, frame: types.FrameType, error: BaseException, traceback: Any) -> None:
        """An exception is in a frame while only some statements are watched."""
        control = self.control
        if control is None or self.tracking.plan_for(frame.f_code) is None or not is_origin(frame, traceback):
            return
        if control.stops_at_exception(frame):
            self.control = None
            self.line(frame, frame.f_lineno)
            self.control = control
            self.raised(frame, error, traceback)

    def unwind(self, frame: types.FrameType, result: bytes | None) -> None:
        """An exception, of which `result` is the picture, leaves a frame."""
        state = self.tracking.states.get(id(frame))
        if state is None:
            return
        if not state.thrown:
            self._emit(UNWIND, state, frame, state.statement, result)
        self.tracking.forget(state)

    def expression(self, frame: types.FrameType, value: Any) -> None:
        """An expression statement has a value."""
        state = self.tracking.states.get(id(frame))
        if state is not None and value is not None:
            self._emit(EXPRESSION, state, frame, state.statement, self.picture(value))

    # --- steps --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hands the steps so far to the sink; in the order in which they were recorded."""
        self.outbox.flush()

    def _miss(self, error: Exception) -> None:
        self.missed_count += 1
        self.fault = type(error).__name__

    def _end_at_limit(self) -> None:
        self.limit_reached = True
        self.tracking.activity += 1
        if self._control is None:
            self.stop_tracing()

    def _emit(
        self, event: int, state: FrameState, frame: types.FrameType, line: int, result: bytes | None
    ) -> None:
        try:
            written = self._record(event, state, frame, line, result)
        except MemoryError:
            raise
        except Exception as error:  # a fault of ours, or no room on the stack, is not the program's
            if came_from(error, self.tracking.is_user_code):
                raise
            self._miss(error)
            state.skipped = True
            state.quick = NEVER
            if event == LINE:
                state.statement = line
            return
        if written is not None:
            control = self._control
            if control is not None:
                control.at_step((line, event, state, written[1], result, written[0]), frame)

    def _record(
        self, event: int, state: FrameState, frame: types.FrameType, line: int, result: bytes | None
    ) -> tuple[int, list[Change] | None] | None:
        """Bytes on stdout and the changes, for who decides on a stop; None when there is no step."""
        now = _clock()
        if not self._open and not self._passes(state.plan.name, line, event, state.depth):
            self.filtered_count += 1
            state.skipped = True
            if event == LINE:
                state.statement = line
            return None
        with self._lock:
            changes = self._changes(state, frame) if self._pictures else None
            if event == LINE:
                state.statement = line
            if self.limit_reached or (self.filter.names and not changes):
                self.filtered_count += 1
                return None
            name, value = _as_entries(changes)
            written = self.stdout[0]
            rows = self.rows
            rows.extend((line, event, state.place, name, value, now, result, written))
        outbox = self.outbox
        if now >= outbox.flush_at or len(rows) >= outbox.room:
            outbox.turn(now)
        return written, changes

    def _changes(self, state: FrameState, frame: types.FrameType) -> list[Change] | None:
        self.renderer.step_nodes_left = STEP_NODES
        plan = state.plan
        tracking = self.tracking
        if state.activity != tracking.activity or state.skipped or tracking.thread_count > 1:
            foreign = True
            state.skipped = False
            executed = _ANYTHING
        else:
            foreign = False
            executed = plan.statements.get(state.statement, _NOTHING)
        state.activity = tracking.activity
        if plan.is_module:
            if tracking.reflective:
                watch_all(state, frame.f_globals)
            changes = self.differ.module(state, frame.f_globals, executed, foreign=foreign)
        else:
            changes = self.differ.function(state, frame, executed, foreign=foreign)
            if plan.stored_globals and tracking.root is not None:
                seen = self.differ.module(
                    tracking.root, frame.f_globals, executed, foreign=foreign, names=plan.stored_globals
                )
                if seen is not None:
                    changes = (changes or []) + [as_global(change) for change in seen]
        state.quick = state.activity if self._may_be_quick(state) else NEVER
        return changes

    def _may_be_quick(self, state: FrameState) -> bool:
        """Whether the frame's next line needs to be looked at for what its statement binds only."""
        tracking, plan = self.tracking, state.plan
        return (
            self._control is None
            and self._open
            and tracking.thread_count <= 1
            and not self.limit_reached
            and not (tracking.reflective if plan.is_module else plan.stored_globals)
        )

    def picture(self, value: Any) -> bytes:
        """`DebugValue` bytes of `value`."""
        with self._lock:
            self.renderer.step_nodes_left = STEP_NODES
            return self.renderer.render(value)

    def _resume_thrown(self, state: FrameState, frame: types.FrameType) -> None:
        state.thrown = False
        if not state.plan.is_module:
            self._emit(RESUME, state, frame, state.statement, None)

    def _adopt_in_the_middle(self, frame: types.FrameType) -> FrameState | None:
        """Starts to follow a frame that already runs, and those that called it, each with its line."""
        control, self.control = self.control, None
        for each in self.tracking.unknown_callers(frame):
            state = self.tracking.adopt(each)
            if state is not None:
                line = each.f_lineno or state.plan.code.co_firstlineno
                state.statement = state.statement_of[line]
                self._emit(LINE, state, each, state.statement, None)
        self.control = control
        return self.tracking.adopt(frame)


def _as_entries(changes: list[Change] | None) -> tuple[int, Any]:
    """Name and value of a row."""
    if not changes:
        return NO_CHANGE, None
    if len(changes) == 1 and changes[0][1] == INTEGER:
        return changes[0][0], changes[0][2]
    return MANY_CHANGES, changes
