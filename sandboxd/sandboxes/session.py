"""One session: the guest that runs its code, and how another one takes its place.

After each execution the guest parks a copy of itself. A crash costs the copy of a copy: the kept state
stays as it is, its copy becomes the session. Whoever calls a method here holds the sandbox's turn.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from sandboxd.channel.messages import RemoveFiles, Restore, Restored
from sandboxd.errors import CopyFailed, SandboxDeleted, SandboxdError, Unavailable
from sandboxd.sandboxes.checkpoints import Checkpoint, ParkedState
from sandboxd.sandboxes.keeping import RestoredWaiter
from sandboxd.sandboxes.kept_states import KeptStates
from sandboxd.sandboxes.model import SandboxSpec, SessionOutcome, SessionState, SkipReason
from sandboxd.sandboxes.whole import whole
from sandboxd.supervisor.copying import Sequel
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.supervisor import Supervisor
from sandboxd.supervisor.waiting import first_of

_log = structlog.get_logger(__name__)

_RESTORE_SECONDS = 15.0


class Session:
    """Owns the guest of one sandbox; `states` are those to go back to."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        spec: SandboxSpec,
        fresh: Callable[[], Coroutine[Any, Any, GuestProcess]],
        directory: str = "",
    ) -> None:
        self._supervisor = supervisor
        self._fresh = fresh
        self.directory = directory
        """Where the files of a branch are; empty for the workspace itself."""
        self.guest: GuestProcess | None = None
        self.states = KeptStates(supervisor=supervisor, spec=spec)
        self._notice: SessionOutcome | None = None
        self._request_number = 0
        self._missing_files = ""
        """What could not be put back when the session last became a kept state; the guest's words."""
        self._successor: tuple[ParkedState, asyncio.Future[GuestProcess]] | None = None
        """A state that became the session, and the copy in the making that takes its place."""

    # --- the guest -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins with a fresh guest."""
        await self._start_fresh()

    async def ready(self) -> GuestProcess:
        """The live guest, with what could be saved where the last one died meanwhile."""
        await self.settle()
        if self.guest is None and not list(self.states.ring) and self._notice is None:
            await self.start()
        elif self.guest is None or not self.guest.alive:
            outcome = await whole(self._revive())
            if self.guest is None:
                raise Unavailable(problem=outcome.reason)
        assert self.guest is not None
        self.guest.family.allow_tasks(self.guest)
        return self.guest

    async def _revive(self) -> SessionOutcome:
        current = self.states.ring.current
        outcome = await self.recover("the session's process died between executions")
        # The state may have died with it and nobody may have seen that yet: what counts is where it is now.
        lossless = current is not None and self.states.ring.current is current
        if not lossless or outcome.state is not SessionState.RESTORED:
            self._notice = outcome
        return outcome

    def adopt(self, guest: GuestProcess, base: Checkpoint) -> None:
        """A branch begins with a copy and the state it was copied from."""
        self.guest = guest
        self.states.begin_at(base)

    def take_notice(self) -> SessionOutcome | None:
        """What became of the session since the last execution, told once."""
        notice, self._notice = self._notice, None
        return notice

    async def recover(self, reason: str) -> SessionOutcome:
        """After the guest's death: back to the state before, or a fresh session where none is kept."""
        await self.settle()
        report = self.states.report
        await self._bury()
        self.states.ring.drop_dead()
        # A state that was never to be kept is lost; for one that died too there may be an earlier one.
        candidates = self.states.ring.ways_back() if report.skipped in (None, SkipReason.FAILED) else []
        for target in candidates:
            if await self._go_to(target):
                missing = self._missing_files
                return SessionOutcome(
                    state=SessionState.RESTORED,
                    restored_from_execution_id=target.after_execution_id,
                    restored_from_number=target.after_execution_number,
                    reason=f"{reason}; its files are not complete: {missing}" if missing else reason,
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
        await self.settle()
        await self.states.keep(self.guest, execution_id=execution_id, number=number)

    async def keep_for_use(self) -> Checkpoint:
        """The state as it stands, as one with a process of its own; `NotBranchable` says why not."""
        return await self.states.keep_for_use(await self.ready())

    async def rewind(self, target: Checkpoint) -> Checkpoint | None:
        """Makes `target` the session; returns the state that was left, where it is kept."""
        await self.settle()
        left = self.states.ring.current
        if target is not left:
            await whole(self._rewind_to(target))
        return left

    async def _rewind_to(self, target: Checkpoint) -> None:
        if not await self._go_to(target):
            outcome = await self.recover("a rewind failed")
            raise CopyFailed(problem=f"the state could not be restored; the session is {outcome.state.value}")

    async def copy_of(self, state: ParkedState) -> GuestProcess:
        """A guest made from a kept state, which stays as it is; its files go to this session's directory."""
        copy = await self._supervisor.copy(state.guest)
        try:
            await self._restore(copy, self.directory)
            if self._missing_files:
                raise CopyFailed(problem=f"its files could not be copied: {self._missing_files}")
            if self.states.has_ended():
                raise SandboxDeleted()
        except BaseException:
            copy.kill("could not be restored")
            raise
        return copy

    # --- the end ---------------------------------------------------------------------------------

    def end(self, reason: str) -> list[GuestProcess]:
        """Ends the session for good; returns the processes that are about to be gone."""
        ending = self.states.end()
        if self._successor is not None:
            _, copying = self._successor
            copying.cancel()
            if copying.done() and not copying.cancelled() and copying.exception() is None:
                copying.result().kill(reason)
                ending.append(copying.result())
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.kill(reason)
            ending.append(guest)
            if self.directory:
                guest.when_gone(self._remove_files)
        return [process for process in ending if not process.alive]

    # --- internals -------------------------------------------------------------------------------

    async def _start_fresh(self) -> None:
        self.guest = None
        self.guest = await self._fresh()
        self.directory = ""
        self.states.begin()

    async def _go_to(self, target: Checkpoint) -> bool:
        """Makes the session a copy of `target`, which stays; False when that failed."""
        self._missing_files = ""
        if target.state is None:
            await self._bury()
            self.guest = await self._fresh()
            self.directory = ""
            self.states.arrived(target)
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
        if self.states.has_ended():
            copy.kill("its sandbox ended")
            raise SandboxDeleted()
        self.guest = copy
        self.states.arrived(target)
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
        await first_of(waiter.answer, guest.exited, seconds=_RESTORE_SECONDS)
        if not waiter.answer.done() or not guest.alive or self.states.has_ended():
            guest.kill("could not be restored")
            await self.settle()
            return False
        self._note_problem(waiter.answer.result())
        guest.family.unpark(guest)
        self.guest = guest
        self.states.arrived(target)
        return True

    async def settle(self) -> None:
        """Waits until a copy has taken the place of a state that became the session."""
        if self._successor is None:
            return
        state, copying = self._successor
        await asyncio.wait([copying])  # not cancelled with this call, nor this call with it
        self._successor = None
        if self.guest is not None:
            self.guest.listen(None)
        error = None if copying.cancelled() else copying.exception()
        if copying.cancelled() or error is not None:
            self.states.lose(state, str(error or "it ended"))
        else:
            self.states.replace(state, copying.result())

    def _note_problem(self, answer: Restored) -> None:
        self._missing_files = answer.problem[:200]
        if answer.problem:
            _log.warning("session.files_not_restored", problem=answer.problem[:200])

    async def _bury(self) -> None:
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.kill("replaced by a kept state")
            await first_of(guest.exited, seconds=_RESTORE_SECONDS)

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

    def _remove_files(self, guest: GuestProcess) -> None:
        """A branch's files stay in the family's workspace until somebody there removes them: the oldest kept
        state, which is idle, and the oldest session, should that state end before it has read this. A younger
        copy may be one of this very session, in the making and about to be ended."""
        members = [member for member in guest.family.members if member.alive]
        for parked in (True, False):
            able = [member for member in members if member.parked is parked]
            if able:
                oldest = min(able, key=lambda member: member.guest_id)
                oldest.send(RemoveFiles(directory=self.directory))
