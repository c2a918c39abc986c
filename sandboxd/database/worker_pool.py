"""Keeps database workers: one to spare, more as statements run at once, new ones for the dead."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from sandboxd.database.errors import DatabaseUnavailable
from sandboxd.database.protocol import OpenDatabases
from sandboxd.database.worker_process import WorkerDied, WorkerProcess

_log = structlog.get_logger(__name__)

_WAIT_SECONDS = 30.0
_RETRY_SECONDS = 1.0


class WorkerPool:
    """Lends each worker to one statement at a time. A dead one is replaced before anybody waits for it."""

    def __init__(self, opened: OpenDatabases, *, max_workers: int = 4) -> None:
        self._opened = opened
        self._max_workers = max_workers
        self._idle: deque[WorkerProcess] = deque()
        self._busy: set[WorkerProcess] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._returned = asyncio.Condition()
        self._closed = False

    async def start(self) -> None:
        """Starts the first worker; raises when it cannot be started."""
        self._idle.append(await WorkerProcess.start(self._opened))
        self._refill()

    async def close(self) -> None:
        """Ends every worker."""
        self._closed = True
        for task in list(self._starting):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for worker in [*self._idle, *self._busy]:
            await worker.end()
        self._idle.clear()

    @property
    def pids(self) -> list[int]:
        """The living workers."""
        return [worker.pid for worker in (*self._idle, *self._busy) if worker.usable]

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[WorkerProcess]:
        """A worker of one's own; it is replaced when it is not usable at the end."""
        worker = await self._take()
        try:
            yield worker
        finally:
            await self._give_back(worker)

    async def _take(self) -> WorkerProcess:
        try:
            async with asyncio.timeout(_WAIT_SECONDS), self._returned:
                while True:
                    while self._idle:
                        worker = self._idle.pop()
                        if worker.usable:
                            self._busy.add(worker)
                            self._refill()
                            return worker
                    self._refill()
                    await self._returned.wait()
        except TimeoutError:
            problem = "every database worker is busy; nothing was run"
            raise DatabaseUnavailable(problem=problem, layer="gateway") from None

    async def _give_back(self, worker: WorkerProcess) -> None:
        self._busy.discard(worker)
        if worker.usable and not self._closed:
            self._idle.append(worker)
        else:
            await asyncio.shield(worker.end())
            self._refill()
        async with self._returned:
            self._returned.notify()

    def _refill(self) -> None:
        """Starts a worker when no spare one is left and there may be more."""
        living = len(self._idle) + len(self._busy) + len(self._starting)
        if self._closed or self._idle or self._starting or living >= self._max_workers:
            return
        task = asyncio.get_running_loop().create_task(self._start_one())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_one(self) -> None:
        while not self._closed:
            try:
                worker = await WorkerProcess.start(self._opened)
            except (OSError, WorkerDied, TimeoutError) as error:
                _log.error("database.worker_start_failed", error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._idle.append(worker)
            async with self._returned:
                self._returned.notify()
            return
