"""The database behind the store: one engine, SQLite or PostgreSQL, and what its errors mean."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sandboxd.store.errors import StoreFull, StoreInUse, StoreUnavailable

_ADVISORY_LOCK = 0x73627864
_LOCK_ATTEMPTS_SECONDS = 3
_CLOSE_SECONDS = 2
_CONNECTIONS = 4
_DAMAGE_SIGNS = ("malformed", "not a database", "no such table", "no such column", "unsupported file format")


class DatabaseDamaged(Exception):
    """The engine says that the file is not, or no longer, a whole database."""


class Database:
    """Connections to the store's database; it raises StoreFull, StoreUnavailable, DatabaseDamaged."""

    def __init__(self, url: URL, *, survive_power_loss: bool = False) -> None:
        self.url = url
        self._engine = _make_engine(url, survive_power_loss=survive_power_loss)
        self._lock_connection: AsyncConnection | None = None
        self._in_use = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def sqlite_path(self) -> Path | None:
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        with _translated(), self._using():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end of the block."""
        with _translated(), self._using():
            async with self._engine.begin() as connection:
                yield connection

    async def checkpoint(self) -> bool:
        """Make what is committed independent of SQLite's write-ahead log; False if readers hindered it."""
        if not self.is_sqlite:
            return True
        with _translated(), self._using():
            async with self._engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                row = (await connection.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))).one()
                return bool(row[0] == 0 and row[1] == row[2])

    async def fill_pool(self) -> None:
        """Open all connections now: a call that is cancelled while it opens one would leave its thread."""
        with _translated():
            async with AsyncExitStack() as stack:
                for _ in range(_CONNECTIONS):
                    await stack.enter_async_context(self._engine.connect())

    async def lock(self) -> None:
        """Hold PostgreSQL's lock of the store until `close`; SQLite's is a file lock of the caller's."""
        if self.is_sqlite:
            return
        with _translated():
            connection = await self._engine.connect()
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            # The lock of a killed server goes when PostgreSQL notices that its connection has gone.
            await connection.execute(text(f"SET lock_timeout = '{_LOCK_ATTEMPTS_SECONDS}s'"))
            try:
                await connection.execute(text(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})"))
            except DBAPIError as error:
                await connection.close()
                raise StoreInUse from error
            self._lock_connection = connection

    async def close(self) -> None:
        if self._lock_connection is not None:
            await self._lock_connection.close()
            self._lock_connection = None
        # A connection that comes back to a pool after its end is not closed by anyone.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._unused.wait()
        await self._engine.dispose()

    @contextmanager
    def _using(self) -> Iterator[None]:
        self._in_use += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._in_use -= 1
            if not self._in_use:
                self._unused.set()


def parse_url(url: str) -> URL:
    """The URL of a setting with the driver of ours put in."""
    parsed = make_url(url)
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    backend = parsed.get_backend_name()
    if backend not in driver:
        raise StoreUnavailable(problem=f"the store can't be kept in {backend!r}: use sqlite or postgresql")
    return parsed.set(drivername=driver[backend])


def _make_engine(url: URL, *, survive_power_loss: bool) -> AsyncEngine:
    # Parameters are user code and its output: they must not get into an error, which may be logged.
    if url.get_backend_name() == "postgresql":
        return create_async_engine(
            url, pool_size=_CONNECTIONS + 1, max_overflow=0, pool_timeout=5, hide_parameters=True
        )
    engine = create_async_engine(
        url, pool_size=_CONNECTIONS, max_overflow=0, pool_timeout=5, hide_parameters=True
    )
    synchronous = "FULL" if survive_power_loss else "NORMAL"

    @event.listens_for(engine.sync_engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        try:
            # The driver would open transactions by its own rules, none before DDL: we send BEGIN ourselves.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 5000")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {synchronous}")
            cursor.close()
        except Exception:
            # The pool forgets a connection that can't be set up; its thread would keep the process alive.
            connection.close()
            raise

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of engine and driver as ours. A value the engine refuses stays what it is: it's our bug."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError, PoolTimeoutError) as error:
        translated = _translate(error)
        if translated is None:
            raise
        raise translated from error


def _translate(error: Exception) -> Exception | None:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    message = str(cause).lower()
    sqlstate = getattr(cause, "sqlstate", None) or ""
    if "disk is full" in message or sqlstate == "53100":
        return StoreFull(resource="history database (bytes)")
    if isinstance(cause, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)):
        return None
    if sqlstate[:2] in {"22", "23"}:
        return None
    if any(sign in message for sign in _DAMAGE_SIGNS):
        return DatabaseDamaged(str(cause))
    return StoreUnavailable(problem="the history database can't be reached or written just now")
