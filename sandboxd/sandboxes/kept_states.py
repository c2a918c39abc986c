"""The states of one session that are kept: copies of its guest, made, counted against memory, dropped."""

from sandboxd.errors import CopyFailed, NotBranchable
from sandboxd.sandboxes.checkpoints import Checkpoint, CheckpointRing, ParkedState
from sandboxd.sandboxes.keeping import excess_bytes, refusal, unsupported
from sandboxd.sandboxes.model import CheckpointReport, SandboxSpec, SkipReason
from sandboxd.supervisor.copying import Sequel
from sandboxd.supervisor.guest_exit import GuestSink
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.supervisor import Supervisor
from sandboxd.supervisor.waiting import first_of


class KeptStates:
    """Owns the copies of a session's guest; which guest that is, the session knows."""

    def __init__(self, *, supervisor: Supervisor, spec: SandboxSpec) -> None:
        self._supervisor = supervisor
        self._spec = spec
        self.ring = CheckpointRing(history_count=spec.checkpoints.history_count)
        self.report = unsupported(supervisor, spec)
        """Whether the state as it stands is kept."""
        self._ended = False
        self._last: tuple[str, int] = ("", 0)
        """The execution after which the session stands."""

    def has_ended(self) -> bool:
        """The sandbox is gone: nothing is kept any more. May become true during any await."""
        return self._ended

    # --- where the session stands ----------------------------------------------------------------

    def begin(self) -> None:
        """The session is a fresh one, which any new guest is a copy of."""
        self.report = unsupported(self._supervisor, self._spec)
        if self.report.skipped in (None, SkipReason.FAILED):
            for entry in [entry for entry in self.ring if entry.state is None and not entry.name]:
                self.ring.drop(entry)
            checkpoint = Checkpoint(state=None)
            self.ring.changed()
            self.ring.add_current(checkpoint)
            self.arrived(checkpoint)

    def begin_at(self, base: Checkpoint) -> None:
        """The session is a branch: it begins with the state it was copied from."""
        self._last = (base.after_execution_id, base.after_execution_number)
        self.ring.add_current(base)
        self._taken(base)
        if base.state is not None:
            base.state.guest.when_gone(self._state_died)

    def arrived(self, target: Checkpoint) -> None:
        """The session is at `target` now."""
        self.ring.move_to(target)
        self._last = (target.after_execution_id, target.after_execution_number)
        self._taken(target)

    # --- keeping ---------------------------------------------------------------------------------

    async def keep(self, guest: GuestProcess | None, *, execution_id: str, number: int) -> None:
        """Keeps the state as it stands after that execution, if it can be kept."""
        self.ring.changed()
        self._last = (execution_id, number)
        self.report = unsupported(self._supervisor, self._spec)
        if self.report.skipped is SkipReason.FAILED:
            previous = self.ring.latest_behind()
            state = await self._park(guest)
            if state is not None:
                if previous is not None and previous.state is not None:
                    state.guest.family.outdate(previous.state.guest)
                self._add(state)
                await self._bound_memory(state.guest)

    async def keep_for_use(self, guest: GuestProcess) -> Checkpoint:
        """The state as it stands, as one with a process of its own; `NotBranchable` says why not."""
        current = self.ring.current
        if current is not None and current.state is not None and current.alive:
            return current
        if self.report.skipped in (SkipReason.DISABLED, SkipReason.UNSUPPORTED):
            raise NotBranchable(problem=self.report.message)
        state = await self._park(guest)  # what was in the way may have ended since
        if state is None:
            raise NotBranchable(problem=self.report.message)
        if current is None:
            return self._add(state)
        current.state = state
        self._taken(current)
        return current

    async def copy_of_stopped(self, guest: GuestProcess, sink: GuestSink) -> GuestProcess:
        """A copy of the guest in the middle of a debug run, for somebody to look into; `CopyFailed` says why
        there is none. `sink` takes what the guest says meanwhile."""
        report = unsupported(self._supervisor, self._spec)
        if report.skipped is not SkipReason.FAILED:
            raise CopyFailed(problem=report.message)
        problem = await refusal(guest, budget=self._budget())
        if problem is not None:
            raise CopyFailed(problem=problem[1])
        copy = await self._supervisor.copy(guest, sequel=Sequel(sink=sink))
        copy.family.expend(copy)
        return copy

    async def _park(self, guest: GuestProcess | None) -> ParkedState | None:
        """A copy of the session as it stands; None when there can be none, and `report` says why."""
        if guest is None or not guest.alive or self.has_ended():
            self._skip(SkipReason.FAILED, "the session ended before its state was kept")
            return None
        problem = await refusal(guest, budget=self._budget())
        if problem is not None:
            self._skip(*problem)
            return None
        try:
            copy = await self._supervisor.copy(guest)
        except CopyFailed as error:
            self._skip(SkipReason.TOO_LARGE if error.too_large else SkipReason.FAILED, error.problem)
            return None
        if self.has_ended():
            copy.kill("its sandbox ended")
            return None
        copy.when_gone(self._state_died)
        return ParkedState(copy).hold()

    def _add(self, state: ParkedState) -> Checkpoint:
        execution_id, number = self._last
        checkpoint = Checkpoint(state=state, after_execution_id=execution_id, after_execution_number=number)
        self.ring.add_current(checkpoint)
        self._taken(checkpoint)
        return checkpoint

    def _budget(self) -> int:
        return self._spec.checkpoints.memory_bytes or self._spec.limits.memory_bytes

    async def _bound_memory(self, guest: GuestProcess) -> None:
        """Drops the oldest states while the kept ones take more than they may."""
        while excess_bytes(guest, budget=self._budget()) > 0:
            oldest = self.ring.oldest_unneeded()
            if oldest is None or oldest.state is None:
                return
            dropped = oldest.state.guest
            self.ring.drop(oldest)
            if not dropped.alive:
                await first_of(dropped.exited, seconds=1)

    # --- losing ----------------------------------------------------------------------------------

    def drop(self, checkpoint: Checkpoint) -> None:
        """Forgets a kept state, by a call."""
        current = self.ring.current
        self.ring.drop(checkpoint)
        if current is checkpoint:
            self._skip(SkipReason.FAILED, "the kept state was dropped by a call")

    def replace(self, state: ParkedState, copy: GuestProcess) -> None:
        """The process of `state` became the session; `copy` takes its place."""
        state.replace(copy)
        copy.when_gone(self._state_died)
        if self.has_ended():
            copy.kill("its sandbox ended")

    def lose(self, state: ParkedState, problem: str) -> None:
        """The process of `state` became the session, and no copy takes its place."""
        for entry in [entry for entry in self.ring if entry.state is state]:
            self.ring.drop(entry)
        self._skip(SkipReason.FAILED, f"the state could not be kept again: {problem}")

    def end(self) -> list[GuestProcess]:
        """Drops every state for good; returns their processes."""
        self._ended = True
        ending = [entry.state.guest for entry in self.ring if entry.state is not None]
        self.ring.drop_all()
        return ending

    def _state_died(self, _gone: GuestProcess) -> None:
        """The kernel killed a kept state for memory: said beforehand, not at the next crash."""
        current = self.ring.current
        self.ring.drop_dead()
        if current is not None and self.ring.current is None and not self.has_ended():
            self._skip(SkipReason.FAILED, "the kept state was ended, for example for lack of memory")

    def _skip(self, reason: SkipReason, message: str) -> None:
        self.report = CheckpointReport(skipped=reason, message=message)

    def _taken(self, checkpoint: Checkpoint) -> None:
        self.report = CheckpointReport(skipped=None, checkpoint_id=checkpoint.id)
