"""From settings to a database that is whole, of this version's schema, and has all of the journal."""

import asyncio
import fcntl
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog
from sqlalchemy import select, update
from sqlalchemy.engine import URL

from sandboxd.store import operations
from sandboxd.store.apply import apply
from sandboxd.store.batch import Batch
from sandboxd.store.database import Database, DatabaseDamaged
from sandboxd.store.errors import StoreInUse, StoreUnavailable
from sandboxd.store.journal import Journal
from sandboxd.store.migrate import SchemaTooNew, upgrade
from sandboxd.store.records import ExecutionState, SandboxState
from sandboxd.store.setting_aside import Problem, SetAside, find_problem, set_aside
from sandboxd.store.tables import executions, journals, meta, sandboxes

log = structlog.get_logger(__name__)

NEVER_RAN = "the server ended while this was queued; it never ran"
OUTCOME_UNKNOWN = "the server ended while this ran; how far it came is unknown"
_REPLAY_OPERATIONS = 512
_PAGE_KEY = "page_token_key"


class StoreLock:
    """One server a data directory: an flock(2) that the kernel drops with its holder, however it ends."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise StoreInUse from error

    def release(self) -> None:
        os.close(self._descriptor)


@dataclass(slots=True)
class Opener:
    """Opens the database of one store, as often as it has to be replaced."""

    url: URL
    journal: Journal
    set_aside: list[SetAside]
    """Every database that was moved away since the start, oldest first."""
    survive_power_loss: bool = False

    async def open(self) -> Database:
        """A usable database; a damaged, newer or foreign SQLite file is set aside and said so in the log."""
        database = Database(self.url, survive_power_loss=self.survive_power_loss)
        path = database.sqlite_path
        if path is not None:
            problem = await asyncio.to_thread(find_problem, path)
            if problem is not None:
                self._move_away(path, *problem)
        try:
            return await self._prepare(database)
        except DatabaseDamaged as error:
            return await self.reopen(database, str(error))

    async def reopen(self, damaged: Database, problem: str) -> Database:
        """Set a database aside that was found damaged, and go on with a fresh one and the journal."""
        await damaged.close()
        path = damaged.sqlite_path
        if path is None:
            raise StoreUnavailable(problem=f"the history database is damaged: {problem}")
        self._move_away(path, Problem.DAMAGED if path.exists() else Problem.GONE, problem)
        return await self._prepare(Database(self.url, survive_power_loss=self.survive_power_loss))

    def _move_away(self, path: Path, problem: Problem, detail: str) -> None:
        moved = set_aside(path, problem, detail)
        self.set_aside.append(moved)
        log.error("store.database_set_aside", problem=moved.problem, detail=detail, kept_as=str(moved.path))

    async def _prepare(self, database: Database) -> Database:
        if database.sqlite_path is not None:
            database.sqlite_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            await database.lock()
            async with database.writing() as connection:
                await connection.run_sync(upgrade)
            await replay(self.journal, database)
            await database.fill_pool()
        except SchemaTooNew as error:
            await database.close()
            raise StoreUnavailable(
                problem=f"the history database has schema revision {error}, newer than this sandboxd knows"
            ) from error
        except BaseException:
            await database.close()
            raise
        return database


async def replay(journal: Journal, database: Database) -> None:
    """Bring what the journal has beyond the database into it."""
    journal_id = journal.id.hex()
    async with database.reading() as connection:
        query = select(journals.c.applied_sequence).where(journals.c.id == journal_id)
        applied = (await connection.execute(query)).scalar() or 0
    journal.start_after(applied)
    batch = Batch()
    for sequence, payload in journal.records_after(applied):
        try:
            batch.add(operations.decode(payload), sequence)
        except msgspec.ValidationError as error:
            log.error("store.journal_record_unreadable", sequence=sequence, problem=str(error))
        if batch.size >= _REPLAY_OPERATIONS:
            await _write(database, batch, journal_id)
            batch = Batch()
    if batch:
        await _write(database, batch, journal_id)


async def _write(database: Database, batch: Batch, journal_id: str) -> None:
    async with database.writing() as connection:
        await apply(connection, batch, journal_id)


async def end_what_was_left_running(database: Database) -> int:
    """At start nothing runs: say truthfully how the last server left its executions and sandboxes."""
    now = datetime.now(UTC)
    ended = 0
    async with database.writing() as connection:
        for state, kind, failure in (
            (ExecutionState.QUEUED, "NEVER_RAN", NEVER_RAN),
            (ExecutionState.RUNNING, "OUTCOME_UNKNOWN", OUTCOME_UNKNOWN),
            (ExecutionState.PAUSED, "OUTCOME_UNKNOWN", OUTCOME_UNKNOWN),
        ):
            statement = (
                update(executions)
                .where(executions.c.state == state.value)
                .values(state=ExecutionState.ABORTED.value, end_time=now, failure_kind=kind, failure=failure)
            )
            ended += (await connection.execute(statement)).rowcount
        await connection.execute(
            update(sandboxes)
            .where(sandboxes.c.state == SandboxState.ACTIVE.value)
            .values(state=SandboxState.ABORTED.value, end_time=now, end_reason="the server ended")
        )
    return ended


async def page_token_key(database: Database) -> bytes:
    """The store's own key for page tokens, made once: tokens outlive a restart."""
    async with database.writing() as connection:
        query = select(meta.c.value).where(meta.c.key == _PAGE_KEY)
        found = (await connection.execute(query)).scalar()
        if found is not None:
            return bytes(found)
        key = secrets.token_bytes(32)
        await connection.execute(meta.insert().values(key=_PAGE_KEY, value=key))
        return key
