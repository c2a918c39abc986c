"""Who may run and when: bounded, fair between users, refused before anything is made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sandboxd.accounts.fair_queue import FairQueue
from sandboxd.accounts.quotas import Lease, QuotaLedger, Resource, UserKey
from sandboxd.errors import Draining, QueueFull, SandboxBusy
from sandboxd.executions.model import WhenBusy
from sandboxd.sandboxes.sandbox import Sandbox

_RETRY_SECONDS = 1.0


class Admission:
    """Gives the right to run: first the sandbox's turn, then one of the server's slots, handed round
    between users."""

    def __init__(
        self,
        *,
        queue: FairQueue[UserKey],
        ledger: QuotaLedger,
        max_queued: int,
        max_queued_per_sandbox: int,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._max_queued = max_queued
        self._max_queued_per_sandbox = max_queued_per_sandbox
        self._waiting_for_turn = 0
        self._draining = False
        self._waiters: set[asyncio.Task[Any]] = set()
        """Tasks that wait for their sandbox's turn."""
        self._turned_away: frozenset[asyncio.Task[Any]] = frozenset()
        self._idle = asyncio.Event()
        self._idle.set()
        self.running_count = 0

    @property
    def queued_count(self) -> int:
        """Executions that wait, for their sandbox or for a slot."""
        return self._waiting_for_turn + self._queue.queued_count

    def check(self, sandbox: Sandbox, *, when_busy: WhenBusy) -> None:
        """Refuses what could not be let in; nothing has been allocated yet."""
        if self._draining:
            raise Draining()
        if sandbox.busy and when_busy is WhenBusy.REFUSE:
            raise SandboxBusy()
        user = user_of(sandbox)
        refusal = self._ledger.refuse_execution(user)
        if refusal is not None:
            raise refusal.error()
        if not sandbox.busy:
            self._queue.check(user)
            return
        if sandbox.waiting >= self._max_queued_per_sandbox:
            raise QueueFull(
                resource="executions waiting in the sandbox",
                limit=self._max_queued_per_sandbox,
                retry_after=_RETRY_SECONDS,
            )
        if self.queued_count >= self._max_queued:
            raise QueueFull(resource="executions waiting", limit=self._max_queued, retry_after=_RETRY_SECONDS)

    @asynccontextmanager
    async def enter(self, sandbox: Sandbox) -> AsyncIterator[None]:
        """Waits for the turn and a slot; holds both."""
        async with self._turn(sandbox), self._queue.slot(user_of(sandbox)):
            if self._draining:
                raise Draining()
            sandbox.require_active()
            self._enter_running()
            try:
                yield
            finally:
                self._leave_running()

    def hold_debug_stream(self, sandbox: Sandbox) -> Lease:
        """A place among its user's debug runs, to be released at the end; `QuotaExceeded` without one."""
        return self._ledger.acquire(user_of(sandbox), Resource.DEBUG_STREAMS)

    def charge(self, sandbox: Sandbox, cpu_seconds: float) -> None:
        """Counts what an execution used against its user's share."""
        self._ledger.charge_cpu(user_of(sandbox), cpu_seconds)

    def stop(self) -> None:
        """From now on nothing is let in; who waits is refused."""
        self._draining = True
        self._queue.close()
        self._turned_away = frozenset(self._waiters)
        for task in self._turned_away:
            task.cancel()

    async def idle(self) -> None:
        """Waits until nothing runs."""
        await self._idle.wait()

    @asynccontextmanager
    async def _turn(self, sandbox: Sandbox) -> AsyncIterator[None]:
        self._waiting_for_turn += 1
        sandbox.waiting += 1
        try:
            await self._take(sandbox.turn)
        finally:
            self._waiting_for_turn -= 1
            sandbox.waiting -= 1
        try:
            yield
        finally:
            sandbox.turn.release()

    async def _take(self, turn: asyncio.Lock) -> None:
        """Waits for the turn; `stop` ends the wait, since what runs before it may take all of the grace."""
        task = asyncio.current_task()
        assert task is not None
        self._waiters.add(task)
        try:
            await turn.acquire()
        except asyncio.CancelledError:
            if task not in self._turned_away:
                raise
            task.uncancel()
            raise Draining() from None
        finally:
            self._waiters.discard(task)

    def _enter_running(self) -> None:
        self.running_count += 1
        self._idle.clear()

    def _leave_running(self) -> None:
        self.running_count -= 1
        if not self.running_count:
            self._idle.set()


def user_of(sandbox: Sandbox) -> UserKey:
    """Whose share a sandbox counts against."""
    return UserKey(owner=sandbox.owner, user_id=sandbox.user_id)
