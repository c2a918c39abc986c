"""One sandbox: who owns it, what it may use, and the guest that is its session."""

import asyncio
from datetime import UTC, datetime

from sandboxd.accounts.quotas import Lease
from sandboxd.channel.debug import CommandDone, QueryTrace
from sandboxd.channel.framing import ChannelBroken
from sandboxd.channel.messages import Configure, GuestMessage, Inspect, LanguageRules, StateReport
from sandboxd.errors import SandboxDeleted, WrongState
from sandboxd.ids import SandboxId
from sandboxd.limits import KIB
from sandboxd.policy import BLOCKED_MODULES
from sandboxd.sandboxes.model import SandboxSpec, SandboxState, SessionOutcome, SessionState
from sandboxd.sandboxes.session import Session
from sandboxd.supervisor.guest_exit import OutputStream
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.supervisor import Supervisor

_FRAME_SLACK_BYTES = 512 * KIB
"""What a final message holds beside the value: traceback, frames, variables."""
_INSPECT_SECONDS = 5.0
_BREATHS = 2
_BREATH_SECONDS = 0.001
_END_SECONDS = 5.0
_MAX_STRAY_MESSAGES = 64
_QUERY_SECONDS = 30.0


class Sandbox:
    """Owns one guest at a time. Whoever uses the guest holds `turn`."""

    def __init__(
        self,
        *,
        sandbox_id: SandboxId,
        owner: str,
        user_id: str,
        spec: SandboxSpec,
        supervisor: Supervisor,
        directory: str = "",
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
        self.keeping = False
        """The turn is held only to keep the state after an execution."""
        self.single_use = False
        """Made for one execution: nothing of it is kept or replaced."""
        self.running_execution_id = ""
        self.execution_count = 0
        self.create_time = datetime.now(UTC)
        self.last_use_time = self.create_time
        self.end_time: datetime | None = None
        self.family_id: str = sandbox_id
        """Shared with its branches."""
        self.origin_id = ""
        """The sandbox it was branched from."""
        self._supervisor = supervisor
        self.session = Session(supervisor=supervisor, spec=spec, fresh=self._fresh_guest, directory=directory)
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
        """Whether somebody uses the session or waits for it. Keeping its state is not a use: that ends by
        itself in a moment, and its caller has been answered."""
        return (self.turn.locked() and not self.keeping) or self.waiting > 0

    @property
    def expired(self) -> bool:
        """Whether it has been idle for too long; by a clock that nobody sets."""
        idle = self._loop.time() - self._last_use
        used = self.turn.locked() or self.waiting > 0
        return not used and idle > self.spec.limits.idle_timeout.total_seconds()

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
        """The live guest, restored or fresh where the last was lost. Needs `turn`."""
        return await self.session.ready()

    async def recover(self, reason: str) -> SessionOutcome:
        """After the guest's death: a session that answers again, and what was saved of the old one."""
        if self.single_use or self.state is not SandboxState.ACTIVE:
            return SessionOutcome(state=SessionState.ENDED, reason=reason)
        return await self.session.recover(reason)

    async def keep(self, execution_id: str, number: int) -> None:
        """Keeps the state after an execution whose caller has been answered. Needs `turn`."""
        self.keeping = True
        try:
            for _ in range(_BREATHS):  # the answer goes out first, unless somebody waits for the turn already
                if self.waiting:
                    break
                await asyncio.sleep(_BREATH_SECONDS)
            await self.session.keep(execution_id=execution_id, number=number)
        finally:
            self.keeping = False

    async def settle(self) -> None:
        """Waits until a restored session has its way back again. Needs `turn`."""
        self.keeping = True
        try:
            await self.session.settle()
        finally:
            self.keeping = False

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
        guest = self.session.guest
        if guest is None or guest.cgroup is None or not guest.alive:
            return 0
        return guest.cgroup.memory_bytes()

    def kill(self, state: SandboxState) -> list[GuestProcess]:
        """Ends it for good: no instruction of it runs any more. Returns its processes, not reaped yet."""
        if self.state is SandboxState.ACTIVE:
            self.state = state
            self.end_time = datetime.now(UTC)
        if self.lease is not None:
            self.lease.release()
        return self.session.end(f"its sandbox was {state.value.lower()}")

    async def end(self, state: SandboxState) -> None:
        """Ends it for good: when this returns, no process of it is left."""
        ending = [guest.exited for guest in self.kill(state)]
        if ending:
            await asyncio.wait(ending, timeout=_END_SECONDS)


class _AnswerWaiter:
    """Takes the answer to one question about a trace; everything else is dropped."""

    def __init__(self, command_id: int) -> None:
        self._command_id = command_id
        self.answer: asyncio.Future[CommandDone] = asyncio.get_running_loop().create_future()

    def message(self, message: GuestMessage) -> None:
        if not isinstance(message, CommandDone) or message.command_id != self._command_id:
            return
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
