"""Which frames of user code are on the way, and what is known of the code they run."""

import types
from collections.abc import Callable

from sandboxd.guest.debug.frames import FrameState, ThreadState, is_hidden_name
from sandboxd.guest.debug.plan import CodePlan, SourcePlan, is_skipped, make_code_plan
from sandboxd.guest.debug.watching import watch_present


class Tracking:
    """The frames and code objects of one run."""

    def __init__(self, sources: Callable[[str], SourcePlan | None], *, by_line: bool) -> None:
        self.codes: list[CodePlan] = []
        self.new_frames: list[FrameState] = []
        """Frames met since the sink last asked."""
        self.states: dict[int, FrameState] = {}
        """By the frame's address."""
        self.root: FrameState | None = None
        """The frame of the module that is run; its variables are everybody's globals."""
        self.activity = 0
        """Goes up when another frame may have run: until then only the frame's own statement changes it."""
        self.thread_count = 0
        self.reflective = False
        """Whether the program can bind globals that it does not name."""
        self.stacks: dict[int, list[FrameState]] = {}
        """User frames of each thread, outermost first."""
        self._sources = sources
        self._by_line = by_line
        self.plans: dict[int, CodePlan | None] = {}
        """By the address of each code object met; None for what is not user code."""
        self._kept_codes: list[types.CodeType] = []
        self._threads = ThreadState()
        self._frame_count = 0

    @property
    def stack(self) -> list[FrameState]:
        """User frames of the current thread, outermost first."""
        return self._threads.stack

    def plan_for(self, code: types.CodeType) -> CodePlan | None:
        """The plan of `code`, None when it is not user code."""
        key = id(code)
        if key in self.plans:
            return self.plans[key]
        self._kept_codes.append(code)
        source = None if is_skipped(code) else self._sources(code.co_filename)
        if source is None:
            self.plans[key] = None
            return None
        plan = make_code_plan(code, source, by_line=self._by_line)
        # Numbered only now: a finaliser of user code may have run, and been planned, meanwhile.
        self.plans[key] = plan
        self.codes.append(plan)
        plan.number = len(self.codes)
        self._watch_names_of(plan)
        return plan

    def is_user_code(self, code: types.CodeType) -> bool:
        """Whether `code` is part of a program."""
        return self.plan_for(code) is not None

    def adopt(self, frame: types.FrameType) -> FrameState | None:
        """Starts to follow a frame; None when it is not user code."""
        plan = self.plan_for(frame.f_code)
        if plan is None:
            return None
        threads = self._threads
        if not threads.number:
            self.thread_count += 1
            threads.number = self.thread_count
            self.stacks[threads.number] = threads.stack
        stack = threads.stack
        self._frame_count += 1
        self.activity += 1
        state = FrameState(
            number=self._frame_count,
            plan=plan,
            address=id(frame),
            caller=stack[-1] if stack else None,
            depth=len(stack) + 1,
            thread=threads.number,
            variables=frame.f_globals if plan.is_module else None,
        )
        self.states[id(frame)] = state
        self.new_frames.append(state)
        stack.append(state)
        if plan.is_module:
            if self.root is None:
                self.root = state
                for known in self.codes:
                    self._watch_names_of(known)
            watch_present(state, self.codes, frame.f_globals)
        return state

    def push(self, state: FrameState) -> None:
        """A suspended frame goes on, perhaps called from elsewhere."""
        self.activity += 1
        stack = self._threads.stack
        state.caller = stack[-1] if stack else None
        state.depth = len(stack) + 1
        state.place = (state.number, state.depth, state.thread)
        stack.append(state)

    def pop(self, state: FrameState) -> None:
        """A frame is suspended."""
        self.activity += 1
        stack = self._threads.stack
        if stack and stack[-1] is state:
            stack.pop()
        elif state in stack:
            del stack[stack.index(state) :]

    def forget(self, state: FrameState) -> None:
        """A frame ends."""
        self.pop(state)
        self.states.pop(state.address, None)

    def forget_all(self) -> None:
        """Follows no frame any more: their ends will not be seen."""
        self.states.clear()
        self._threads.stack.clear()
        self.root = None

    def unknown_callers(self, frame: types.FrameType) -> list[types.FrameType]:
        """Frames of user code that called `frame` and are not followed, outermost first."""
        found: list[types.FrameType] = []
        outer = frame.f_back
        while outer is not None and id(outer) not in self.states and not self._threads.stack:
            if self.plan_for(outer.f_code) is not None:
                found.append(outer)
            outer = outer.f_back
        return found[::-1]

    def _watch_names_of(self, plan: CodePlan) -> None:
        self.reflective = self.reflective or plan.reflective
        root = self.root
        if root is not None:
            known = set(root.watch)
            root.watch += [
                name for name in plan.stored_globals if name not in known and not is_hidden_name(name)
            ]
