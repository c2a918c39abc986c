"""Takes operations in and writes them behind, in batches: journal first, database within milliseconds."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from sandboxd.store import operations
from sandboxd.store.apply import apply
from sandboxd.store.batch import Batch
from sandboxd.store.database import Database, DatabaseDamaged
from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.journal import Journal
from sandboxd.store.records import ExecutionRecord, SandboxRecord

log = structlog.get_logger(__name__)

_BATCH_OPERATIONS = 512
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
_DRAIN_SECONDS = 10.0


class Reopen(Protocol):
    """Sets a damaged database aside and gives the one to go on with, everything in the journal in it."""

    def __call__(self, damaged: Database, problem: str) -> Awaitable[Database]: ...


class Writer:
    """The only writer of the database. What `append` has returned for survives a SIGKILL of the server.

    `reading` waits for what was appended before; `pending_execution` and `pending_sandbox` find records by
    request id before they are in the database.
    """

    def __init__(
        self, *, journal: Journal, database: Database, reopen: Reopen, flush_interval_seconds: float = 0.1
    ) -> None:
        self._journal = journal
        self.database = database
        self._reopen = reopen
        self._flush_interval_seconds = flush_interval_seconds
        self._filling = Batch()
        self._writing = Batch()
        self._added = 0
        self._written = 0
        self._written_sequence = 0
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopping = asyncio.Event()
        self._progress = asyncio.Condition()
        self._failure: StoreFull | StoreUnavailable | None = None
        self.database_lock = asyncio.Lock()
        """Held by whoever writes to the database, or replaces it."""
        self._file_identity = _identity(database)
        self._suspicion: str | None = None

    def append(self, operation: operations.Operation, *, begins_work: bool = True) -> None:
        """Record `operation`; it is durable against a kill when this returns.

        Raises StoreFull or StoreUnavailable where the journal can't take it. With `begins_work` false the
        operation is then kept in memory and still written to the database, but is not to be acknowledged.
        """
        sequence: int | None = None
        try:
            sequence = self._journal.append(operations.encode(operation), begins_work=begins_work)
        finally:
            if sequence is not None or not begins_work:
                self._filling.add(operation, sequence)
                self._added += 1
                self._work.set()
                if self._filling.size >= _BATCH_OPERATIONS:
                    self._hurry.set()

    async def sync(self) -> None:
        """Put the journal on the disk; only for durability against power loss."""
        await asyncio.to_thread(self._journal.sync)

    def pending_execution(self, owner: str, request_id: str) -> ExecutionRecord | None:
        for batch in (self._filling, self._writing):
            execution_id = batch.execution_requests.get((owner, request_id))
            if execution_id is not None and execution_id not in self._filling.withdrawn:
                return batch.executions.get(execution_id)
        return None

    def pending_sandbox(self, owner: str, request_id: str) -> SandboxRecord | None:
        for batch in (self._filling, self._writing):
            sandbox_id = batch.sandbox_requests.get((owner, request_id))
            if sandbox_id is not None:
                return batch.sandboxes.get(sandbox_id)
        return None

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection that sees all that was appended before. Raises StoreFull or StoreUnavailable."""
        await self.drain()
        try:
            async with self.database.reading() as connection:
                yield connection
        except DatabaseDamaged as error:
            self._suspicion = str(error)
            self._work.set()
            raise StoreUnavailable(problem="the history database is damaged and being replaced") from error

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction beside the flusher's, for deletions. Raises StoreFull or StoreUnavailable."""
        async with self.database_lock:
            try:
                async with self.database.writing() as connection:
                    yield connection
            except DatabaseDamaged as error:
                self._suspicion = str(error)
                self._work.set()
                raise StoreUnavailable(
                    problem="the history database is damaged and being replaced"
                ) from error

    async def forget_journal(self) -> None:
        """Drop from the journal what the database has, so that nothing deleted stays readable there."""
        await self.drain()
        async with self.database_lock:
            self._journal.rotate()
            if await self.database.checkpoint():
                self._journal.drop_until(self._written_sequence)

    async def drain(self) -> None:
        """Wait until all that was appended before is in the database.

        Raises what keeps it from getting there, once a write has failed.
        """
        goal = self._added
        if self._written >= goal:
            return
        self._hurry.set()
        try:
            async with asyncio.timeout(_DRAIN_SECONDS), self._progress:
                await self._progress.wait_for(lambda: self._written >= goal or self._failure is not None)
        except TimeoutError as error:
            raise StoreUnavailable(problem="the history database does not answer in time") from error
        if self._written < goal and self._failure is not None:
            raise self._failure

    async def run(self) -> None:
        """Write behind until `stop`; the caller drains before."""
        while not self._stopping.is_set():
            await self._work.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._flush_interval_seconds):
                    await self._hurry.wait()
            self._work.clear()
            self._hurry.clear()
            while self._suspicion is not None and not self._stopping.is_set():
                await self._replace(self._suspicion)
            await self._flush()

    def stop(self) -> None:
        """End `run` after the write it is at. Never cancelled: a cancelled connect would leave a thread."""
        self._stopping.set()
        self._work.set()
        self._hurry.set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _flush(self) -> None:
        self._writing, self._filling = self._filling, Batch()
        count = self._writing.size
        attempt = 0
        while self._writing:
            try:
                async with self.database_lock:
                    await self._check_file()
                    await self._write(self._writing)
            except (StoreFull, StoreUnavailable) as error:
                await self._report(error)
                await self._pause(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
                if self._stopping.is_set():
                    return
            except DatabaseDamaged as error:
                await self._replace(str(error))
                if self._stopping.is_set():
                    return
            else:
                break
        self._writing = Batch()
        self._written += count
        await self._report(None)

    async def _write(self, batch: Batch) -> None:
        try:
            async with self.database.writing() as connection:
                await apply(connection, batch, self._journal.id.hex())
        except SQLAlchemyError as error:
            log.error("store.batch_refused", problem=type(error).__name__)
            await self._write_singly(batch)
        if self._journal.has_closed_until(batch.last_sequence) and await self.database.checkpoint():
            self._journal.drop_until(batch.last_sequence)
        self._written_sequence = max(self._written_sequence, batch.last_sequence)

    async def _write_singly(self, batch: Batch) -> None:
        """One record that the engine refuses must not hold up the others for ever."""
        for single in batch.split():
            try:
                async with self.database.writing() as connection:
                    await apply(connection, single, "")
            except SQLAlchemyError as error:
                log.error("store.record_refused", problem=str(error)[:500])
        rest = Batch()
        rest.size, rest.last_sequence, rest.withdrawn = 1, batch.last_sequence, batch.withdrawn
        async with self.database.writing() as connection:
            await apply(connection, rest, self._journal.id.hex())

    async def _report(self, failure: StoreFull | StoreUnavailable | None) -> None:
        if failure is not None and self._failure is None:
            log.warning("store.write_delayed", reason=failure.reason, problem=str(failure))
        elif failure is None and self._failure is not None:
            log.info("store.write_recovered")
        self._failure = failure
        async with self._progress:
            self._progress.notify_all()

    async def _check_file(self) -> None:
        """A file removed or replaced beneath an open connection takes writes and loses them."""
        self._journal.renew_if_removed()
        if self._file_identity is not None and _identity(self.database) != self._file_identity:
            raise DatabaseDamaged("the database file was removed or replaced")

    async def _replace(self, problem: str) -> None:
        try:
            async with self.database_lock:
                self.database = await self._reopen(self.database, problem)
                self._file_identity = _identity(self.database)
                self._suspicion = None
        except (StoreFull, StoreUnavailable, DatabaseDamaged) as error:
            failure = (
                error if not isinstance(error, DatabaseDamaged) else StoreUnavailable(problem=str(error))
            )
            await self._report(failure)
            await self._pause(_RETRY_SECONDS[-1])


def _identity(database: Database) -> tuple[int, int] | None:
    path = database.sqlite_path
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)
