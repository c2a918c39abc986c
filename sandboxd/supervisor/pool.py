"""Guests kept ready, so that a new sandbox does not wait for a fork."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from sandboxd.errors import SandboxdError
from sandboxd.supervisor.guest_process import GuestProcess

_PARALLEL_FILLS = 8
"""Attaching to a control group waits for the kernel unless others do it at the same time."""
_CALM_SECONDS = 0.01
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0


class GuestPool:
    """Keeps `size` guests ready. Whoever finds it empty waits for the next one, first come first served;
    a failure to make one reaches the one who waits longest, never nobody."""

    def __init__(self, make: Callable[[], Awaitable[GuestProcess]], *, size: int) -> None:
        self._make = make
        self._size = size
        self._ready: deque[GuestProcess] = deque()
        self._waiting: deque[asyncio.Future[GuestProcess]] = deque()
        self._fillers: set[asyncio.Task[None]] = set()
        self._pause = 0.0
        self._later: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def ready_count(self) -> int:
        """Guests that could be taken at once."""
        return sum(guest.alive for guest in self._ready)

    async def take(self) -> GuestProcess:
        """A ready guest, the oldest first."""
        while self._ready:
            guest = self._ready.popleft()
            if guest.alive:
                self._fill_soon()
                return guest
        waiting: asyncio.Future[GuestProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self.fill()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and not waiting.exception():
                self._ready.append(waiting.result())
            raise

    def fill(self) -> None:
        """Starts making what is missing; returns at once."""
        missing = self._size + len(self._waiting) - len(self._ready) - len(self._fillers)
        for _ in range(min(missing, _PARALLEL_FILLS - len(self._fillers))):
            if not self._closed:
                task = asyncio.get_running_loop().create_task(self._fill_one())
                self._fillers.add(task)
                task.add_done_callback(self._filled)

    def _fill_soon(self) -> None:
        """A fork beside the execution that has just got its guest would take the second core from it."""
        if 2 * len(self._ready) < self._size:
            self.fill()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(_CALM_SECONDS, self._fill_later)

    def _fill_later(self) -> None:
        self._later = None
        self.fill()

    def empty(self) -> None:
        """Drops what is ready: it belongs to a zygote that is being replaced."""
        while self._ready:
            self._ready.popleft().kill("pool emptied")

    async def close(self) -> None:
        """Stops filling and drops what is ready."""
        self._closed = True
        for task in list(self._fillers):
            task.cancel()
        if self._fillers:
            await asyncio.wait(list(self._fillers))
        self.empty()

    def _filled(self, task: asyncio.Task[None]) -> None:
        self._fillers.discard(task)
        if not task.cancelled():
            task.result()
            self.fill()

    async def _fill_one(self) -> None:
        if self._pause:
            await asyncio.sleep(self._pause)
        try:
            guest = await self._make()
        except SandboxdError as error:
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            waiting = self._next_waiting()
            if waiting:
                waiting.set_exception(error)
            return
        self._pause = 0.0
        waiting = self._next_waiting()
        if waiting:
            waiting.set_result(guest)
        else:
            guest.when_gone(self._discard)
            self._ready.append(guest)

    def _discard(self, guest: GuestProcess) -> None:
        """A guest that dies in the pool leaves it, and another is made."""
        if guest in self._ready:
            self._ready.remove(guest)
            self.fill()

    def _next_waiting(self) -> asyncio.Future[GuestProcess] | None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                return waiting
        return None
