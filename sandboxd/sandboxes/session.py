"""One session: the guest that runs its code, and the states of it that are kept to go back to.

After each execution the guest parks a copy of itself. A crash costs the copy of a copy: the kept state
stays as it is, its copy becomes the session. Whoever calls a method here holds the sandbox's turn.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from sandboxd.channel.messages import RemoveFiles, Restore, Restored
from sandboxd.errors import CopyFailed, NotBranchable, SandboxDeleted, SandboxdError, Unavailable
from sandboxd.sandboxes.checkpoints import Checkpoint, CheckpointRing, ParkedState
from sandboxd.sandboxes.keeping import RestoredWaiter, excess_bytes, refusal, unsupported
from sandboxd.sandboxes.model import (
    CheckpointReport,
    SandboxSpec,
    SessionOutcome,
    SessionState,
    SkipReason,
)
from sandboxd.supervisor.copying import Sequel
from sandboxd.supervisor.guest_exit import GuestSink
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.supervisor import Supervisor

_log = structlog.get_logger(__name__)

_RESTORE_SECONDS = 15.0


class Session:
    """Owns the guest and the kept states of one sandbox."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        spec: SandboxSpec,
        fresh: Callable[[], Coroutine[Any, Any, GuestProcess]],
        directory: str = "",
    ) -> None:
        self._supervisor = supervisor
        self._spec = spec
        self._fresh = fresh
        self.directory = directory
        """Where the files of a branch are; empty for the workspace itself."""
        self.guest: GuestProcess | None = None
        self.ring = CheckpointRing(history_count=spec.checkpoints.history_count)
        self.kept = unsupported(supervisor, spec)
        """Whether the state as it stands is kept."""
        self._notice: SessionOutcome | None = None
        self._last: tuple[str, int] = ("", 0)
        """The execution after which the session stands."""
        self._ended = False
        self._request_number = 0
        self._successor: tuple[ParkedState, asyncio.Future[GuestProcess]] | None = None
        """A state that became the session, and the copy in the making that takes its place."""

    # --- the guest -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins with a fresh guest."""
        await self._start_fresh()

    async def ready(self) -> GuestProcess:
        """The live guest, with what could be saved where the last one died meanwhile."""
        await self.settle()
        if self.guest is None and not list(self.ring) and self._notice is None:
            await self.start()
        elif self.guest is None or not self.guest.alive:
            lossless = self.ring.current is not None and self.ring.current.alive
            outcome = await self.recover("the session's process died between executions")
            self._notice = None if lossless and outcome.state is SessionState.RESTORED else outcome
            if self.guest is None:
                raise Unavailable(problem=outcome.reason)
        assert self.guest is not None
        self.guest.family.allow_tasks(self.guest)
        return self.guest

    def adopt(self, guest: GuestProcess, base: Checkpoint) -> None:
        """A branch begins with a copy and the state it was copied from."""
        self.guest = guest
        self._last = (base.after_execution_id, base.after_execution_number)
        self.ring.add_current(base)
        self._taken(base)
        if base.state is not None:
            base.state.guest.when_gone(self._state_died)

    def take_notice(self) -> SessionOutcome | None:
        """What became of the session since the last execution, told once."""
        notice, self._notice = self._notice, None
        return notice

    async def recover(self, reason: str) -> SessionOutcome:
        """After the guest's death: back to the state before, or a fresh session where none is kept."""
        await self.settle()
        report = self.kept
        await self._bury()
        self.ring.drop_dead()
        # A state that was never to be kept is lost; for one that died too there may be an earlier one.
        candidates = self.ring.ways_back() if report.skipped in (None, SkipReason.FAILED) else []
        for target in candidates:
            if await self._go_to(target):
                return SessionOutcome(
                    state=SessionState.RESTORED,
                    restored_from_execution_id=target.after_execution_id,
                    restored_from_number=target.after_execution_number,
                    reason=reason,
                    checkpoint=report,
                )
        try:
            await self._start_fresh()
        except Unavailable as error:
            reason = f"{reason}; no fresh guest yet: {error}"
        return SessionOutcome(state=SessionState.LOST, reason=reason, checkpoint=report)

    async def roll_back(self, reason: str) -> SessionOutcome:
        """Gives up what the last execution did."""
        if self.guest is not None:
            self.guest.kill("rolled back")
        return await self.recover(reason)

    # --- keeping states --------------------------------------------------------------------------

    async def keep(self, *, execution_id: str, number: int) -> None:
        """Keeps the state as it stands after that execution, if it can be kept."""
        self.ring.changed()
        self._last = (execution_id, number)
        self.kept = unsupported(self._supervisor, self._spec)
        if self.kept.skipped is SkipReason.FAILED:
            previous = self.ring.latest_behind()
            state = await self._park()
            if state is not None:
                if previous is not None and previous.state is not None:
                    state.guest.family.outdate(previous.state.guest)
                self._add(state)
                await self._bound_memory(state.guest)

    async def keep_for_use(self) -> Checkpoint:
        """The state as it stands, as one with a process of its own; `NotBranchable` says why not."""
        await self.ready()
        current = self.ring.current
        if current is not None and current.state is not None and current.alive:
            return current
        if self.kept.skipped in (SkipReason.DISABLED, SkipReason.UNSUPPORTED):
            raise NotBranchable(problem=self.kept.message)
        state = await self._park()  # what was in the way may have ended since
        if state is None:
            raise NotBranchable(problem=self.kept.message)
        if current is None:
            return self._add(state)
        current.state = state
        self._taken(current)
        return current

    async def rewind(self, target: Checkpoint) -> Checkpoint | None:
        """Makes `target` the session; returns the state that was left, where it is kept."""
        await self.settle()
        left = self.ring.current
        if target is left:
            return left
        if not await self._go_to(target):
            outcome = await self.recover("a rewind failed")
            raise CopyFailed(problem=f"the state could not be restored; the session is {outcome.state.value}")
        return left

    async def copy_of(self, state: ParkedState) -> GuestProcess:
        """A guest made from a kept state, which stays as it is; its files go to this session's directory."""
        copy = await self._supervisor.copy(state.guest)
        try:
            await self._restore(copy, self.directory)
        except BaseException:
            copy.kill("could not be restored")
            raise
        return copy

    async def copy_of_stopped(self, guest: GuestProcess, sink: GuestSink) -> GuestProcess:
        """A copy of the guest in the middle of a debug run, for somebody to look into; `CopyFailed` says why
        there is none. `sink` takes what the guest says meanwhile."""
        report = unsupported(self._supervisor, self._spec)
        if report.skipped is not SkipReason.FAILED:
            raise CopyFailed(problem=report.message)
        problem = await refusal(guest, budget=self._budget())
        if problem is not None:
            raise CopyFailed(problem=problem[1])
        return await self._supervisor.copy(guest, sequel=Sequel(sink=sink))

    def drop(self, checkpoint: Checkpoint) -> None:
        """Forgets a kept state."""
        current = self.ring.current
        self.ring.drop(checkpoint)
        if current is checkpoint:
            self._skip(SkipReason.FAILED, "the kept state was dropped by a call")

    # --- the end ---------------------------------------------------------------------------------

    def end(self, reason: str) -> list[GuestProcess]:
        """Ends the session for good; returns the processes that are about to be gone."""
        self._ended = True
        if self._successor is not None:
            self._successor[1].cancel()
        ending = [entry.state.guest for entry in self.ring if entry.state is not None]
        self.ring.drop_all()
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.kill(reason)
            ending.append(guest)
            if self.directory:
                guest.when_gone(self._remove_files)
        return [process for process in ending if not process.alive]

    # --- internals -------------------------------------------------------------------------------

    def _has_ended(self) -> bool:
        """May become true during any await."""
        return self._ended

    async def _start_fresh(self) -> None:
        self.guest = None
        self.guest = await self._fresh()
        self.directory = ""
        self.kept = unsupported(self._supervisor, self._spec)
        if self.kept.skipped in (None, SkipReason.FAILED):
            for entry in [entry for entry in self.ring if entry.state is None and not entry.name]:
                self.ring.drop(entry)
            checkpoint = Checkpoint(state=None)
            self.ring.changed()
            self.ring.add_current(checkpoint)
            self._arrived(checkpoint)

    async def _park(self) -> ParkedState | None:
        """A copy of the session as it stands; None when there can be none, and `kept` says why."""
        guest = self.guest
        if guest is None or not guest.alive or self._has_ended():
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
        if self._has_ended():
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

    async def _go_to(self, target: Checkpoint) -> bool:
        """Makes the session a copy of `target`, which stays; False when that failed."""
        if target.state is None:
            await self._bury()
            self.guest = await self._fresh()
            self.directory = ""
            self._arrived(target)
            return True
        if target.state.exclusive and (self.guest is None or not self.guest.alive):
            if await self._promote(target, target.state):
                return True
            if not target.alive:
                return False
        try:
            copy = await self._supervisor.copy(target.state.guest)
        except SandboxdError as error:
            _log.warning("session.copy_failed", problem=str(error))
            return False
        await self._bury()  # its threads must not write files any more when they are put back
        try:
            await self._restore(copy, self.directory)
        except CopyFailed as error:
            copy.kill("could not be restored")
            _log.warning("session.restore_failed", problem=str(error))
            return False
        if self._has_ended():
            copy.kill("its sandbox ended")
            raise SandboxDeleted()
        self.guest = copy
        self._arrived(target)
        return True

    async def _promote(self, target: Checkpoint, state: ParkedState) -> bool:
        """After a crash the state itself becomes the session: it copies itself first, then puts its files
        back, and nobody waits for the copy's first word. False leaves the copy as the state, if there is one.
        """
        await self._bury()
        guest = state.guest
        self._request_number += 1
        waiter = RestoredWaiter(self._request_number)
        order = Restore(request_id=self._request_number, directory=self.directory)
        state.promote()
        copying = asyncio.ensure_future(
            self._supervisor.copy(guest, sequel=Sequel(message=order, sink=waiter))
        )
        self._successor = (state, copying)
        ends: list[asyncio.Future[Any]] = [waiter.answer, guest.exited]
        await asyncio.wait(ends, timeout=_RESTORE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not waiter.answer.done() or not guest.alive or self._has_ended():
            guest.kill("could not be restored")
            await self.settle()
            return False
        self._note_problem(waiter.answer.result())
        guest.family.unpark(guest)
        self.guest = guest
        self._arrived(target)
        return True

    async def settle(self) -> None:
        """Waits until a copy has taken the place of a state that became the session."""
        successor, self._successor = self._successor, None
        if successor is None:
            return
        state, copying = successor
        await asyncio.wait([copying])  # not cancelled with this call, nor this call with it
        if self.guest is not None:
            self.guest.listen(None)
        error = None if copying.cancelled() else copying.exception()
        if copying.cancelled() or error is not None:
            for entry in [entry for entry in self.ring if entry.state is state]:
                self.ring.drop(entry)
            self._skip(SkipReason.FAILED, f"the state could not be kept again: {error or 'it ended'}")
        else:
            copy = copying.result()
            state.replace(copy)
            copy.when_gone(self._state_died)
            if self._has_ended():
                copy.kill("its sandbox ended")

    @staticmethod
    def _note_problem(answer: Restored) -> None:
        if answer.problem:
            _log.warning("session.files_not_restored", problem=answer.problem[:200])

    def _arrived(self, target: Checkpoint) -> None:
        self.ring.move_to(target)
        self._last = (target.after_execution_id, target.after_execution_number)
        self._taken(target)

    async def _bury(self) -> None:
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.kill("replaced by a kept state")
            await asyncio.wait([guest.exited], timeout=_RESTORE_SECONDS)

    async def _restore(self, copy: GuestProcess, directory: str) -> None:
        self._request_number += 1
        waiter = RestoredWaiter(self._request_number)
        copy.listen(waiter)
        try:
            copy.send(Restore(request_id=self._request_number, directory=directory))
            async with asyncio.timeout(_RESTORE_SECONDS):
                await copy.until(waiter.answer)
        except TimeoutError:
            raise CopyFailed(problem="the copy did not restore its files in time") from None
        finally:
            copy.listen(None)
        if not waiter.answer.done():
            raise CopyFailed(problem="the copy died while it was restored")
        self._note_problem(waiter.answer.result())
        copy.family.unpark(copy)

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
                await asyncio.wait([dropped.exited], timeout=1)

    def _state_died(self, _gone: GuestProcess) -> None:
        """The kernel killed a kept state for memory: said beforehand, not at the next crash."""
        current = self.ring.current
        self.ring.drop_dead()
        if current is not None and self.ring.current is None and not self._has_ended():
            self._skip(SkipReason.FAILED, "the kept state was ended, for example for lack of memory")

    def _skip(self, reason: SkipReason, message: str) -> None:
        self.kept = CheckpointReport(skipped=reason, message=message)

    def _taken(self, checkpoint: Checkpoint) -> None:
        self.kept = CheckpointReport(skipped=None, checkpoint_id=checkpoint.id)

    def _remove_files(self, guest: GuestProcess) -> None:
        """A branch's files stay in the family's workspace until somebody there removes them."""
        members = [member for member in guest.family.members if member.alive]
        for member in sorted(members, key=lambda member: not member.parked)[:1]:
            member.send(RemoveFiles(directory=self.directory))
