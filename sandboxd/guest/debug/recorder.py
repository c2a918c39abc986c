"""Turns what a hook sees into steps."""

import time
import types
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.differ import Change, Differ, as_global
from sandboxd.guest.debug.frames import FrameState, ThreadState, is_hidden_name
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
from sandboxd.guest.debug.plan import CodePlan, SourcePlan, StatementPlan, is_skipped, make_code_plan
from sandboxd.guest.debug.steps import Control, Sink, Step
from sandboxd.guest.debug.tracebacks import is_origin
from sandboxd.guest.debug.values import STEP_NODES, Renderer
from sandboxd.guest.debug.watching import watch_all, watch_present

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
        stdout_size: Callable[[], int] = lambda: 0,
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        self.options = options
        self.filter = options.filter
        self.renderer = Renderer(options.values)
        self.names: dict[str, int] = {}
        self.codes: list[CodePlan] = []
        self.frames: list[FrameState] = []
        """Frames met since the sink last asked."""
        self.control: Control | None = None
        self.stop_tracing: Callable[[], None] = lambda: None
        """Set by the hook: ends tracing while the program goes on."""
        self.watch_only: Callable[[frozenset[int] | None], None] = lambda _lines: None
        """Set by the hook: from now on only these statements are looked at; None for all again."""
        self.step_count = self.recorded_count = self.filtered_count = 0
        self.call_count = self.exception_count = self.thread_count = 0
        self.missed_count = 0
        self.fault = ""
        self.limit_reached = False
        self.root: FrameState | None = None
        """The frame of the module that is run; its variables are everybody's globals."""
        self._sink = sink
        self._sources = sources
        self._stdout_size = stdout_size
        self._plans: dict[int, CodePlan | None] = {}
        self._kept_codes: list[types.CodeType] = []
        self._states: dict[int, FrameState] = {}
        self._steps: list[Step] = []
        self._threads = ThreadState()
        self._lock = allocate_lock()
        self._open = options.filter.is_open
        self._passes = Sieve(options.filter).passes
        self._max_steps = options.filter.max_steps
        self._batch_steps = options.batch_steps
        self._flush_interval_ns = options.flush_interval_ns
        self._activity = 0
        self._reflective = False
        """Whether the program can bind globals that it does not name."""
        self._frame_count = 0
        self._flush_at = 0
        self._pictures = options.detail in ("delta", "full", "summary")
        self._differ = Differ(
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

    def plan_for(self, code: types.CodeType) -> CodePlan | None:
        """The plan of `code`, None when it is not user code."""
        key = id(code)
        if key in self._plans:
            return self._plans[key]
        self._kept_codes.append(code)
        source = None if is_skipped(code) else self._sources(code.co_filename)
        if source is None:
            self._plans[key] = None
            return None
        plan = make_code_plan(code, source, by_line=self.options.by_line)
        # Numbered only now: a finaliser of user code may have run, and been planned, meanwhile.
        self._plans[key] = plan
        self.codes.append(plan)
        plan.number = len(self.codes)
        self._watch_names_of(plan)
        return plan

    def state_of(self, frame: types.FrameType) -> FrameState | None:
        """What is known of a frame of user code."""
        return self._states.get(id(frame))

    @property
    def left_out_changes(self) -> int:
        """Variables that were not looked at, because a budget was spent."""
        return self._differ.left_out + self.renderer.deferred_count

    def take_picture_bytes(self) -> int:
        """Bytes of pictures made since this was last asked."""
        made, self._differ.picture_bytes = self._differ.picture_bytes, 0
        return made

    def live_states(self) -> list[FrameState]:
        """All frames of user code that run or are suspended."""
        return list(self._states.values())

    @property
    def stack(self) -> list[FrameState]:
        """User frames of the current thread, outermost first."""
        return self._threads.stack

    # --- events, called by the hook ---------------------------------------------------------

    def line(self, frame: types.FrameType, line: int) -> None:
        """A line of user code is about to run."""
        state = self._states.get(id(frame))
        if state is None:
            state = self._adopt_in_the_middle(frame)
            if state is None:
                return
        statements = state.plan.statement_of
        statement = line if statements is None else statements[line]
        if state.statement == statement and (state.resumed or line != state.raw_line):
            state.raw_line = line
            state.resumed = False
            return
        state.resumed = False
        if state.thrown:
            self._resume_thrown(state, frame)
        self._emit(LINE, state, frame, statement, None)
        state.raw_line = line
        state.statement = statement

    def enter(self, frame: types.FrameType) -> None:
        """A function of user code starts."""
        state = self._adopt(frame)
        if state is not None and not state.plan.is_module:
            self.call_count += 1
            self._emit(CALL, state, frame, state.plan.code.co_firstlineno, None)

    def resume(self, frame: types.FrameType, *, thrown: bool = False, repeats_line: bool = False) -> None:
        """A generator or coroutine goes on; with `thrown`, by an exception."""
        state = self._states.get(id(frame))
        if state is None:
            self._adopt(frame)
            return
        self._activity += 1
        self._push(state)
        state.resumed = repeats_line
        if thrown:
            state.thrown = True
        elif not state.plan.is_module:
            self._emit(RESUME, state, frame, state.statement or state.plan.code.co_firstlineno, None)

    def leave(self, frame: types.FrameType, value: Any) -> None:
        """A function of user code returns `value`."""
        state = self._states.get(id(frame))
        if state is None:
            return
        if state.thrown:
            self._resume_thrown(state, frame)
        result = None if value is None else self.picture(value)
        self._emit(RETURN, state, frame, state.statement or state.plan.code.co_firstlineno, result)
        self._forget(state)

    def suspend(self, frame: types.FrameType, value: Any) -> None:
        """A generator or coroutine gives `value` away."""
        state = self._states.get(id(frame))
        if state is None:
            return
        if state.thrown:
            self._resume_thrown(state, frame)
        if not state.plan.is_module:
            result = None if value is None else self.picture(value)
            self._emit(YIELD, state, frame, state.statement or state.plan.code.co_firstlineno, result)
        self._pop(state)
        self._activity += 1

    def raised(self, frame: types.FrameType, error: BaseException, traceback: Any) -> None:
        """An exception is in a frame; a step only where it enters user code."""
        state = self._states.get(id(frame))
        if state is None or not is_origin(frame, traceback):
            return
        self.exception_count += 1
        self._emit(EXCEPTION, state, frame, state.statement, self.picture(error))

    def raised_unwatched(self, frame: types.FrameType, error: BaseException, traceback: Any) -> None:
        """An exception is in a frame while only some statements are watched."""
        control = self.control
        if control is None or self.plan_for(frame.f_code) is None or not is_origin(frame, traceback):
            return
        if control.stops_at_exception(frame):
            self.control = None
            self.line(frame, frame.f_lineno)
            self.control = control
            self.raised(frame, error, traceback)

    def unwind(self, frame: types.FrameType, result: bytes | None) -> None:
        """An exception, of which `result` is the picture, leaves a frame."""
        state = self._states.get(id(frame))
        if state is None:
            return
        if not state.thrown:
            self._emit(UNWIND, state, frame, state.statement, result)
        self._forget(state)

    def expression(self, frame: types.FrameType, value: Any) -> None:
        """An expression statement has a value."""
        state = self._states.get(id(frame))
        if state is not None and value is not None:
            self._emit(EXPRESSION, state, frame, state.statement, self.picture(value))

    # --- steps --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hands the steps so far to the sink."""
        with self._lock:
            steps, self._steps = self._steps, []
        if steps:
            self._sink.take(steps)

    def _emit(
        self, event: int, state: FrameState, frame: types.FrameType, line: int, result: bytes | None
    ) -> None:
        try:
            step = self._record(event, state, frame, line, result)
        except MemoryError:
            raise
        except Exception as error:  # a fault of ours, or no room on the stack, is not the program's
            self.missed_count += 1
            self.fault = type(error).__name__
            state.skipped = True
            return
        if step is not None and self.control is not None:
            self.control.at_step(step, frame)
        if self.recorded_count >= self._max_steps:
            self._end_recording()

    def _record(
        self, event: int, state: FrameState, frame: types.FrameType, line: int, result: bytes | None
    ) -> Step | None:
        now = _clock()
        self.step_count += 1
        if not self._open and not self._passes(state.plan.name, line, event, state.depth):
            self.filtered_count += 1
            state.skipped = True
            return None
        with self._lock:
            changes = self._changes(state, frame) if self._pictures else None
            if self.limit_reached or (self.filter.names and not changes):
                self.filtered_count += 1
                return None
            self.recorded_count += 1
            step = (line, event, state, state.depth, changes, now, result, self._stdout_size())
            steps = self._steps
            steps.append(step)
        if now >= self._flush_at or len(steps) >= self._batch_steps:
            self._flush_at = now + self._flush_interval_ns
            self.flush()
        return step

    def _changes(self, state: FrameState, frame: types.FrameType) -> list[Change] | None:
        self.renderer.step_nodes_left = STEP_NODES
        plan = state.plan
        if state.activity != self._activity or state.skipped or self.thread_count > 1:
            foreign = True
            state.skipped = False
            state.activity = self._activity
            executed = _ANYTHING
        else:
            foreign = False
            executed = plan.statements.get(state.statement, _NOTHING)
        if plan.is_module:
            if self._reflective:
                watch_all(state, frame.f_globals)
            return self._differ.module(state, frame.f_globals, executed, foreign=foreign)
        changes = self._differ.function(state, frame, executed, foreign=foreign)
        if plan.stored_globals and self.root is not None:
            seen = self._differ.module(
                self.root, frame.f_globals, executed, foreign=foreign, names=plan.stored_globals
            )
            if seen is not None:
                changes = (changes or []) + [as_global(change) for change in seen]
        return changes

    def picture(self, value: Any) -> bytes:
        """`DebugValue` bytes of `value`."""
        with self._lock:
            self.renderer.step_nodes_left = STEP_NODES
            return self.renderer.render(value)

    def _end_recording(self) -> None:
        self.limit_reached = True
        if self.control is None:
            self.stop_tracing()

    def _resume_thrown(self, state: FrameState, frame: types.FrameType) -> None:
        state.thrown = False
        if not state.plan.is_module:
            self._emit(RESUME, state, frame, state.statement, None)

    # --- frames -------------------------------------------------------------------------------

    def _adopt(self, frame: types.FrameType) -> FrameState | None:
        """Starts to follow a frame."""
        plan = self.plan_for(frame.f_code)
        if plan is None:
            return None
        threads = self._threads
        if not threads.number:
            self.thread_count += 1
            threads.number = self.thread_count
        stack = threads.stack
        self._frame_count += 1
        self._activity += 1
        state = FrameState(
            number=self._frame_count,
            plan=plan,
            address=id(frame),
            caller=stack[-1] if stack else None,
            depth=len(stack) + 1,
            thread=threads.number,
        )
        self._states[id(frame)] = state
        self.frames.append(state)
        stack.append(state)
        if plan.is_module:
            if self.root is None:
                self.root = state
                for known in self.codes:
                    self._watch_names_of(known)
            watch_present(state, self.codes, frame.f_globals)
        return state

    def _adopt_in_the_middle(self, frame: types.FrameType) -> FrameState | None:
        """Starts to follow a frame that already runs, and those that called it, each with its line."""
        waiting = []
        outer = frame.f_back
        while outer is not None and id(outer) not in self._states and not self._threads.stack:
            if self.plan_for(outer.f_code) is not None:
                waiting.append(outer)
            outer = outer.f_back
        control, self.control = self.control, None
        for each in reversed(waiting):
            state = self._adopt(each)
            if state is not None:
                statements = state.plan.statement_of
                line = each.f_lineno or state.plan.code.co_firstlineno
                state.statement = line if statements is None else statements[line]
                self._emit(LINE, state, each, state.statement, None)
        self.control = control
        return self._adopt(frame)

    def forget_frames(self) -> None:
        """Follows no frame any more: their ends will not be seen."""
        self._states.clear()
        self._threads.stack.clear()
        self.root = None

    def _watch_names_of(self, plan: CodePlan) -> None:
        self._reflective = self._reflective or plan.reflective
        root = self.root
        if root is not None:
            known = set(root.watch)
            root.watch += [
                name for name in plan.stored_globals if name not in known and not is_hidden_name(name)
            ]

    def _push(self, state: FrameState) -> None:
        stack = self._threads.stack
        state.caller = stack[-1] if stack else None
        state.depth = len(stack) + 1
        stack.append(state)

    def _pop(self, state: FrameState) -> None:
        stack = self._threads.stack
        if state in stack:
            del stack[stack.index(state) :]

    def _forget(self, state: FrameState) -> None:
        self._pop(state)
        self._activity += 1
        self._states.pop(state.address, None)
