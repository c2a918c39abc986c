"""How many queries of one sandbox run and wait at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandboxd.database.errors import QueryQueueFull

MAX_RUNNING = 2
MAX_QUEUED = 8


class Turns:
    """Two queries of a sandbox run, eight wait, more are refused: one sandbox cannot take every worker."""

    def __init__(self, *, max_running: int = MAX_RUNNING, max_queued: int = MAX_QUEUED) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._counts: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, sandbox_id: str) -> AsyncIterator[None]:
        """Waits for a turn of the sandbox; raises `QueryQueueFull`."""
        count = self._counts.get(sandbox_id, 0)
        if count >= self._max_running + self._max_queued:
            problem = f"{self._max_running} queries of this sandbox run and {self._max_queued} wait already"
            raise QueryQueueFull(problem=problem, layer="gateway", hint="await one before you start the next")
        self._counts[sandbox_id] = count + 1
        semaphore = self._semaphores.setdefault(sandbox_id, asyncio.Semaphore(self._max_running))
        try:
            async with semaphore:
                yield
        finally:
            self._counts[sandbox_id] -= 1
            if not self._counts[sandbox_id]:
                del self._counts[sandbox_id], self._semaphores[sandbox_id]
