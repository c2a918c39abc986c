"""One sandbox: who owns it, what it may use, and the guest that is its session."""

import asyncio
from datetime import UTC, datetime

from sandboxd.accounts.quotas import Lease
from sandboxd.channel.debug import CommandDone, QueryTrace
from sandboxd.channel.framing import ChannelBroken
from sandboxd.channel.messages import Configure, GuestMessage, Inspect, LanguageRules, StateReport
from sandboxd.errors import SandboxDeleted, Unavailable, WrongState
from sandboxd.ids import SandboxId
from sandboxd.limits import KIB
from sandboxd.policy import BLOCKED_MODULES
from sandboxd.sandboxes.model import SandboxSpec, SandboxState, SessionOutcome, SessionState
from sandboxd.supervisor.guest_process import GuestProcess, OutputStream
from sandboxd.supervisor.supervisor import Supervisor

_FRAME_SLACK_BYTES = 512 * KIB
"""What a final message holds beside the value: traceback, frames, variables."""
_INSPECT_SECONDS = 5.0
_END_SECONDS = 5.0
_MAX_STRAY_MESSAGES = 64
_QUERY_SECONDS = 30.0


class Sandbox:
    """Owns one guest at a time. Whoever uses the guest holds `turn`."""

    def __init__(
        self, *, sandbox_id: SandboxId, owner: str, user_id: str, spec: SandboxSpec, supervisor: Supervisor
    ) -> None:
        self.id = sandbox_id
        self.owner = owner
        self.user_id = user_id
        self.spec = spec
        self.state = SandboxState.ACTIVE
        self.turn = asyncio.Lock()
        """Held by the one who uses the guest; waiters are served in order."""
        self.waiting = 0
        self.lease: Lease | None = None
        """Its place in its user's share, given back at its end."""
        self.recorded = False
        """The store knows it."""
        self.single_use = False
        """Made for one execution: nothing of it is kept or replaced."""
        self.running_execution_id = ""
        self.execution_count = 0
        self.create_time = datetime.now(UTC)
        self.last_use_time = self.create_time
        self.end_time: datetime | None = None
        self._supervisor = supervisor
        self._guest: GuestProcess | None = None
        self._loop = asyncio.get_running_loop()
        self._last_use = self._loop.time()
        self._request_number = 0

    # --- use -------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Use renews the idle time."""
        self._last_use = self._loop.time()
        self.last_use_time = datetime.now(UTC)

    @property
    def busy(self) -> bool:
        """Whether somebody uses the guest or waits for it."""
        return self.turn.locked() or self.waiting > 0

    @property
    def expired(self) -> bool:
        """Whether it has been idle for too long; by a clock that nobody sets."""
        idle = self._loop.time() - self._last_use
        return not self.busy and idle > self.spec.limits.idle_timeout.total_seconds()

    @property
    def expire_time(self) -> datetime:
        """When it expires if nobody uses it."""
        return self.last_use_time + self.spec.limits.idle_timeout

    def require_active(self) -> None:
        """`SandboxDeleted` when it ended while the caller waited."""
        if self.state is not SandboxState.ACTIVE:
            raise SandboxDeleted()

    # --- the guest -------------------------------------------------------------------------------

    async def guest(self) -> GuestProcess:
        """The live guest, a fresh one where the last was lost. Needs `turn`."""
        if self._guest is None or not self._guest.alive:
            self._guest = await self._fresh_guest()
        return self._guest

    async def recover(self, reason: str) -> SessionOutcome:
        """After the guest's death: a session that answers again, and what was saved of the old one."""
        self._guest = None
        if self.single_use or self.state is not SandboxState.ACTIVE:
            return SessionOutcome(state=SessionState.ENDED, reason=reason)
        try:
            await self.guest()
        except Unavailable as error:
            reason = f"{reason}; no fresh guest yet: {error}"
        return SessionOutcome(state=SessionState.LOST, reason=reason)

    async def _fresh_guest(self) -> GuestProcess:
        guest = await self._supervisor.acquire(self.spec.limits)
        if self.state is not SandboxState.ACTIVE:
            guest.kill("its sandbox ended")
            raise SandboxDeleted()
        guest.accept_frames_of(self.spec.limits.result_bytes + _FRAME_SLACK_BYTES)
        guest.send(_configuration(self.spec))
        return guest

    async def inspect(self, *, variable_limit: int) -> StateReport:
        """The namespace's variables. Needs `turn`."""
        guest = await self.guest()
        self._request_number += 1
        waiter = _StateWaiter(self._request_number)
        guest.listen(waiter)
        try:
            guest.send(Inspect(request_id=self._request_number, variable_limit=variable_limit))
            async with asyncio.timeout(_INSPECT_SECONDS):
                await guest.until(waiter.report)
            if waiter.report.done():
                return waiter.report.result()
            raise WrongState(problem="the session ended while its state was read")
        except TimeoutError:
            guest.kill("does not tell its state")
            raise WrongState(problem="the session does not answer; its guest was ended") from None
        finally:
            guest.listen(None)

    async def query_trace(self, asked: QueryTrace) -> CommandDone:
        """The guest's answer to a question about a trace it keeps. Needs `turn`."""
        guest = await self.guest()
        waiter = _AnswerWaiter(asked.command_id)
        guest.listen(waiter)
        try:
            guest.send(asked)
            async with asyncio.timeout(_QUERY_SECONDS):
                await guest.until(waiter.answer)
            if waiter.answer.done():
                return waiter.answer.result()
            raise WrongState(problem="the session ended while its trace was read")
        except TimeoutError:
            guest.kill("does not answer about its trace")
            raise WrongState(problem="the session does not answer; its guest was ended") from None
        finally:
            guest.listen(None)

    def used_memory_bytes(self) -> int:
        """Memory charged to the guest at this moment; 0 where it can't be known."""
        if self._guest is None or self._guest.cgroup is None or not self._guest.alive:
            return 0
        return self._guest.cgroup.memory_bytes()

    def kill(self, state: SandboxState) -> GuestProcess | None:
        """Ends it for good: no instruction of it runs any more. Returns the guest, not reaped yet."""
        if self.state is SandboxState.ACTIVE:
            self.state = state
            self.end_time = datetime.now(UTC)
        if self.lease is not None:
            self.lease.release()
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.kill(f"its sandbox was {state.value.lower()}")
        return guest

    async def end(self, state: SandboxState) -> None:
        """Ends it for good: when this returns, no process of it is left."""
        guest = self.kill(state)
        if guest is not None:
            await asyncio.wait([guest.exited], timeout=_END_SECONDS)


class _AnswerWaiter:
    """Takes the answer to one question about a trace; everything else is dropped."""

    def __init__(self, command_id: int) -> None:
        self._command_id = command_id
        self.answer: asyncio.Future[CommandDone] = asyncio.get_running_loop().create_future()

    def message(self, message: GuestMessage) -> None:
        if isinstance(message, CommandDone) and message.command_id == self._command_id:
            if not self.answer.done():
                self.answer.set_result(message)

    def output(self, stream: OutputStream, data: bytes) -> None:
        """Output of threads between executions belongs to none."""


class _StateWaiter:
    """Takes the one state report that was asked for; everything else is dropped."""

    def __init__(self, request_id: int) -> None:
        self._request_id = request_id
        self._stray = 0
        self.report: asyncio.Future[StateReport] = asyncio.get_running_loop().create_future()

    def message(self, message: GuestMessage) -> None:
        if not isinstance(message, StateReport) or message.request_id != self._request_id:
            self._stray += 1
            if self._stray > _MAX_STRAY_MESSAGES:
                raise ChannelBroken(f"{type(message).__name__} without a request")
            return
        if not self.report.done():
            self.report.set_result(message)

    def output(self, stream: OutputStream, data: bytes) -> None:
        """Output of threads between executions belongs to none."""


def _configuration(spec: SandboxSpec) -> Configure:
    return Configure(
        rules=LanguageRules(
            restricted=spec.policy.restricted,
            allowed_modules=list(spec.policy.allowed_modules),
            blocked_modules=list(BLOCKED_MODULES),
            blocked_builtins=list(spec.policy.blocked_builtins),
        ),
        enable_debugging=spec.enable_debugging,
        result_bytes=spec.limits.result_bytes,
        log_bytes=spec.limits.log_bytes,
        databases=[grant.database for grant in spec.database_grants],
    )
