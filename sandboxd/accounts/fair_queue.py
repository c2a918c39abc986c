"""Who runs next: slots are handed out owner by owner, so that a long line of one does not hold up others."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from sandboxd.errors import Draining, QueueFull, SandboxdError

Owner = TypeVar("Owner", bound=Hashable)

_SMOOTHING = 0.1
_SHORTEST_RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 30.0


class FairQueue(Generic[Owner]):
    """A bounded number of slots and of waiters. Used from one event loop.

    Between owners slots go round; within one owner first come is first served. An owner at its own most
    is passed over until one of its slots is free.
    """

    def __init__(
        self,
        *,
        slots: int,
        max_queued: int,
        max_queued_per_owner: int | None = None,
        max_running_per_owner: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._max_queued = max_queued
        self._max_queued_per_owner = max_queued if max_queued_per_owner is None else max_queued_per_owner
        self._max_running_per_owner = slots if max_running_per_owner is None else max_running_per_owner
        self._clock = clock
        self._waiting: dict[Owner, deque[asyncio.Future[None]]] = {}
        self._round: OrderedDict[Owner, None] = OrderedDict()
        """Owners that wait and may have another slot, the next one first."""
        self._running: dict[Owner, int] = {}
        self._hold_seconds = 0.1
        self._closed: SandboxdError | None = None
        self.running_count = 0
        self.queued_count = 0

    def check(self, owner: Owner) -> None:
        """Raise QueueFull where a call of `slot` would, QueueFull or Draining; nothing is taken."""
        if self._closed is not None:
            raise self._closed
        if self._may_run(owner):
            return
        if self.queued_count >= self._max_queued:
            raise self._full("queued executions", self._max_queued)
        if len(self._waiting.get(owner, ())) >= self._max_queued_per_owner:
            raise self._full("queued executions of this user", self._max_queued_per_owner)

    @asynccontextmanager
    async def slot(self, owner: Owner) -> AsyncIterator[None]:
        """Wait for a slot and hold it for the block. Raises QueueFull at once, Draining when closed."""
        self.check(owner)
        if self._may_run(owner):
            self._take(owner)
        else:
            await self._wait(owner)
        started = self._clock()
        try:
            yield
        finally:
            self._hold_seconds += _SMOOTHING * (self._clock() - started - self._hold_seconds)
            self._give_back(owner)

    def close(self, error: SandboxdError | None = None) -> None:
        """Refuse whoever waits and whoever comes, with Draining unless said otherwise; what runs goes on."""
        self._closed = error or Draining()
        for line in self._waiting.values():
            for turn in line:
                if not turn.done():
                    turn.set_exception(self._closed)

    def running_of(self, owner: Owner) -> int:
        """How many slots the owner holds."""
        return self._running.get(owner, 0)

    def _may_run(self, owner: Owner) -> bool:
        """A slot is free and nobody who could take it has waited longer."""
        free = self.running_count < self._slots and self.running_of(owner) < self._max_running_per_owner
        return free and not self._round

    def _full(self, resource: str, limit: int) -> QueueFull:
        seconds = self._hold_seconds * (self.queued_count + 1) / self._slots
        bounded = min(max(seconds, _SHORTEST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)
        return QueueFull(resource=resource, limit=limit, retry_after=round(bounded, 1))

    async def _wait(self, owner: Owner) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._waiting.setdefault(owner, deque())
        line.append(turn)
        self.queued_count += 1
        if self.running_of(owner) < self._max_running_per_owner:
            self._round.setdefault(owner, None)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # The slot was handed over, but whom it was for has gone.
                self._give_back(owner)
            else:
                self._leave(owner, turn)
            raise

    def _leave(self, owner: Owner, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(owner)
        if line is None or turn not in line:
            return
        line.remove(turn)
        self.queued_count -= 1
        if not line:
            del self._waiting[owner]
            self._round.pop(owner, None)

    def _take(self, owner: Owner) -> None:
        self.running_count += 1
        self._running[owner] = self.running_of(owner) + 1

    def _give_back(self, owner: Owner) -> None:
        self.running_count -= 1
        left = self._running[owner] - 1
        if left:
            self._running[owner] = left
        else:
            del self._running[owner]
        if owner in self._waiting and left < self._max_running_per_owner:
            self._round.setdefault(owner, None)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._round and self.running_count < self._slots and self._closed is None:
            owner, _ = self._round.popitem(last=False)
            line = self._waiting[owner]
            turn = line.popleft()
            self.queued_count -= 1
            if not line:
                del self._waiting[owner]
            if turn.done():
                # Cancelled in this very step of the loop: its owner's turn goes to the next in line.
                if line:
                    self._round[owner] = None
                    self._round.move_to_end(owner, last=False)
                continue
            self._take(owner)
            turn.set_result(None)
            if line and self.running_of(owner) < self._max_running_per_owner:
                self._round[owner] = None
