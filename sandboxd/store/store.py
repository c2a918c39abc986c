"""The store as the rest of the host sees it: opened once, closed once, three histories."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from sqlalchemy import Table, select
from sqlalchemy.engine import URL

from sandboxd.store.database import DatabaseDamaged, parse_url
from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.executions import ExecutionFilter, ExecutionHistory
from sandboxd.store.journal import Journal, JournalLimits
from sandboxd.store.opening import Opener, StoreLock, end_what_was_left_running, page_token_key
from sandboxd.store.paging import PageTokens
from sandboxd.store.queries import QueryAudit
from sandboxd.store.records import Statistics
from sandboxd.store.retention import Deleted, RetentionPolicy, delete_user, prune, stored_bytes
from sandboxd.store.sandboxes import SandboxHistory
from sandboxd.store.seen import SeenRequests
from sandboxd.store.setting_aside import SetAside
from sandboxd.store.statistics import read_statistics
from sandboxd.store.tables import executions, sandboxes
from sandboxd.store.writer import Writer

log = structlog.get_logger(__name__)

_CLOCK_TOLERANCE_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where the history is kept and how hard."""

    directory: Path
    """Holds the journal, the lock, and the SQLite file unless `url` says otherwise."""
    url: str = ""
    """`sqlite:///path` or `postgresql://...`; empty for `history.db` in `directory`."""
    survive_power_loss: bool = False
    """Acknowledge only what is on the disk itself: about one fdatasync(2) an execution. Without it what
    was acknowledged survives the end of the server in any way, but not that of the machine."""
    flush_interval_seconds: float = 0.1
    """How long records are gathered before they are written to the database together."""
    journal: JournalLimits = field(default_factory=JournalLimits)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)

    @property
    def database_url(self) -> URL:
        """Where the database is."""
        return parse_url(self.url or f"sqlite:///{self.directory / 'history.db'}")


class Store:
    """Histories of sandboxes, executions and queries. Made by `open_store` only."""

    def __init__(
        self, *, writer: Writer, tokens: PageTokens, opener: Opener, survive_power_loss: bool
    ) -> None:
        self._writer = writer
        self._opener = opener
        self.sandboxes = SandboxHistory(writer=writer, tokens=tokens, sync_each=survive_power_loss)
        self.executions = ExecutionHistory(writer=writer, tokens=tokens, sync_each=survive_power_loss)
        self.queries = QueryAudit(writer=writer, tokens=tokens, sync_each=survive_power_loss)

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """Databases that had to be moved out of the way since the start; empty when all is well."""
        return tuple(self._opener.set_aside)

    async def flush(self) -> None:
        """Wait until the database has all that was recorded. Raises StoreFull or StoreUnavailable."""
        await self._writer.drain()

    async def statistics(self, span: ExecutionFilter) -> Statistics:
        """Figures by state, limit and phase over the executions of `span`."""
        return await read_statistics(self._writer, span)

    def stored_bytes(self, *, owner: str, user_id: str) -> int:
        """What the history of a user takes, for its quota; costs no look into the database."""
        return self.executions.stored.get((owner, user_id), 0)

    async def prune(self, policy: RetentionPolicy) -> Deleted:
        """Delete what `policy` no longer keeps."""
        deleted = await prune(self._writer, policy)
        await self._count_stored()
        return deleted

    async def delete_user(self, *, owner: str | None, user_id: str | None) -> Deleted:
        """Delete all history of one user of `owner`, with no `user_id` of all of them, with no `owner` of
        that user with every owner; end what lives before."""
        deleted = await delete_user(self._writer, owner=owner, user_id=user_id)
        await self._count_stored()
        return deleted

    async def keep_pruned(self, policy: RetentionPolicy, stopping: asyncio.Event) -> None:
        """Prune again and again until `stopping`; by age only while the clock has not been moved."""
        started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        while not stopping.is_set():
            moved = abs(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - started)
            if moved > _CLOCK_TOLERANCE_SECONDS:
                log.warning("store.clock_moved", seconds=round(moved), effect="nothing is deleted by age")
                policy = replace(policy, max_age=None, query_max_age=None)
            with suppress(StoreFull, StoreUnavailable):
                deleted = await self.prune(policy)
                if deleted != Deleted(0, 0, 0):
                    log.info("store.pruned", executions=deleted.executions, queries=deleted.queries)
            with suppress(TimeoutError):
                async with asyncio.timeout(policy.interval.total_seconds()):
                    await stopping.wait()

    async def _count_stored(self) -> None:
        self.executions.stored = await stored_bytes(self._writer)

    async def learn_request_ids(self, stopping: asyncio.Event) -> None:
        """Read the request ids of earlier runs; until then each new one costs a look into the database."""
        for table, seen in (
            (executions, self.executions.requests.seen),
            (sandboxes, self.sandboxes.requests.seen),
        ):
            with suppress(StoreUnavailable, StoreFull, DatabaseDamaged):
                await self._learn(table, seen, stopping)

    async def _learn(self, table: Table, seen: SeenRequests, stopping: asyncio.Event) -> None:
        query = select(table.c.owner, table.c.request_id).where(table.c.request_id.is_not(None))
        async with self._writer.database.reading() as connection:
            result = await connection.stream(query)
            async for partition in result.partitions(1000):
                for owner, request_id in partition:
                    seen.add(owner, request_id)
                await asyncio.sleep(0)
                if stopping.is_set():
                    return
        seen.complete = True


@asynccontextmanager
async def open_store(settings: StoreSettings) -> AsyncIterator[Store]:
    """Open the store, repair what the last server left, write behind, and flush at the end.

    Raises StoreInUse when another server has it, StoreUnavailable when the database can't be opened.
    """
    lock = StoreLock(settings.directory)
    try:
        journal = Journal(settings.directory / "journal", settings.journal)
        for damage in journal.damaged:
            log.error(
                "store.journal_damaged",
                path=str(damage.path),
                good_records=damage.good_records,
                lost_bytes=damage.lost_bytes,
            )
        try:
            async with _opened(settings, journal) as store:
                yield store
        finally:
            journal.close()
    finally:
        lock.release()


@asynccontextmanager
async def _opened(settings: StoreSettings, journal: Journal) -> AsyncIterator[Store]:
    opener = Opener(settings.database_url, journal, [], settings.survive_power_loss)
    database = await opener.open()
    writer: Writer | None = None
    try:
        aborted = await end_what_was_left_running(database)
        if aborted:
            log.warning("store.executions_aborted", count=aborted)
        if await database.checkpoint():
            journal.drop_until(journal.last_sequence)
        tokens = PageTokens(await page_token_key(database))
        writer = Writer(
            journal=journal,
            database=database,
            reopen=opener.reopen,
            flush_interval_seconds=settings.flush_interval_seconds,
        )
        store = Store(
            writer=writer, tokens=tokens, opener=opener, survive_power_loss=settings.survive_power_loss
        )
        async with _in_background(writer, store, settings.retention):
            yield store
    finally:
        await (writer.database if writer is not None else database).close()


@asynccontextmanager
async def _in_background(writer: Writer, store: Store, retention: RetentionPolicy) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    tasks = [
        asyncio.create_task(writer.run(), name="store writer"),
        asyncio.create_task(store.learn_request_ids(stopping), name="store request ids"),
        asyncio.create_task(store.keep_pruned(retention, stopping), name="store retention"),
    ]
    for task in tasks:
        task.add_done_callback(_report_end)
    try:
        yield
    finally:
        stopping.set()
        # What can't be written now is in the journal, and goes to the database at the next start.
        with suppress(StoreFull, StoreUnavailable):
            await writer.drain()
        writer.stop()
        await asyncio.wait(tasks)


def _report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("store.task_failed", task=task.get_name(), exc_info=task.exception())
