"""How many executions run at once and how many wait: bounded, in order, refused before anything is made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandboxd.errors import Draining, QueueFull, SandboxBusy
from sandboxd.executions.model import WhenBusy
from sandboxd.sandboxes.sandbox import Sandbox

_RETRY_SECONDS = 1.0


class Admission:
    """Gives the right to run: first the sandbox's turn, then one of the server's slots."""

    def __init__(self, *, max_parallel: int, max_queued: int, max_queued_per_sandbox: int) -> None:
        self._slots = asyncio.Semaphore(max_parallel)
        self._max_queued = max_queued
        self._max_queued_per_sandbox = max_queued_per_sandbox
        self.queued_count = 0
        self.running_count = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self, sandbox: Sandbox, *, when_busy: WhenBusy) -> None:
        """Refuses what could not be let in; nothing has been allocated yet."""
        if self._draining:
            raise Draining()
        if sandbox.busy and when_busy is WhenBusy.REFUSE:
            raise SandboxBusy()
        if sandbox.busy and sandbox.waiting >= self._max_queued_per_sandbox:
            raise QueueFull(
                resource="executions waiting in the sandbox",
                limit=self._max_queued_per_sandbox,
                retry_after=_RETRY_SECONDS,
            )
        if (sandbox.busy or self._slots.locked()) and self.queued_count >= self._max_queued:
            raise QueueFull(resource="executions waiting", limit=self._max_queued, retry_after=_RETRY_SECONDS)

    @asynccontextmanager
    async def enter(self, sandbox: Sandbox) -> AsyncIterator[None]:
        """Waits for the turn and a slot; holds both."""
        self.queued_count += 1
        sandbox.waiting += 1
        waiting = True
        try:
            async with sandbox.turn, self._slots:
                self.queued_count -= 1
                sandbox.waiting -= 1
                waiting = False
                if self._draining:
                    raise Draining()
                sandbox.require_active()
                self._enter_running()
                try:
                    yield
                finally:
                    self._leave_running()
        finally:
            if waiting:
                self.queued_count -= 1
                sandbox.waiting -= 1

    def stop(self) -> None:
        """From now on nothing is let in; who waits is refused when the turn comes."""
        self._draining = True

    async def idle(self) -> None:
        """Waits until nothing runs."""
        await self._idle.wait()

    def _enter_running(self) -> None:
        self.running_count += 1
        self._idle.clear()

    def _leave_running(self) -> None:
        self.running_count -= 1
        if not self.running_count:
            self._idle.set()
