"""Real engines for the tests: a SQLite file and a PostgreSQL server, each with something to protect."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from sandboxd.database.audit import MemoryAudit
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.protocol import DatabaseSpec
from sandboxd.database.sample import build_sqlite, load_postgres
from sandboxd.database.settings import DatabaseSettings
from sandboxd.database.worker.planner import Catalog
from sandboxd.database.worker.postgres_engine import PostgresDatabase
from sandboxd.database.worker.sqlite_engine import SqliteDatabase
from tests.database.engines import CANARY, Desk
from tests.database.postgres_server import PostgresServer, find_binaries, running_postgres

READER = "sandboxd_reader"
_SECRETS = f"""
CREATE TABLE api_keys (id integer PRIMARY KEY, secret text);
INSERT INTO api_keys VALUES (1, '{CANARY}');
CREATE TABLE salaries (name text, amount integer);
INSERT INTO salaries VALUES ('Ada', 1);
"""
_SHOWN = ("users", "user_activities", "documents", "pipeline_input", "active_users")


@pytest.fixture(scope="session")
def sqlite_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "sample.db"
    build_sqlite(path)
    with sqlite3.connect(path) as connection:
        connection.executescript(_SECRETS)
    connection.close()
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries on this machine")
    with running_postgres(binaries) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop(postgres: PostgresServer) -> PostgresServer:
    """The server with the sample tables, secrets, a hardened reader and a role without rights taken away."""
    owner = await asyncpg.connect(postgres.url("postgres"))
    await owner.execute("CREATE ROLE plain_reader LOGIN; GRANT pg_read_all_data TO plain_reader")
    await owner.execute("CREATE DATABASE soft")  # stays as a new server is: nothing is revoked
    await owner.execute("CREATE DATABASE served")  # for a server under test, which writes
    await owner.close()
    for name in ("postgres", "served"):
        await _fill(postgres, name)
    return postgres


async def _fill(postgres: PostgresServer, database: str) -> None:
    connection = await asyncpg.connect(postgres.url("postgres", database))
    await load_postgres(connection)
    await connection.execute(_SECRETS)
    await postgres.harden(database, READER)
    await connection.execute(
        f"REVOKE ALL ON api_keys, salaries FROM {READER};"
        f"GRANT UPDATE (processed, title) ON documents TO {READER};"
        f"GRANT INSERT, DELETE ON pipeline_input TO {READER}"
    )
    await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def desk(sqlite_path: Path, shop: PostgresServer) -> AsyncIterator[Desk]:
    """A gateway over both engines with its audit."""
    async with _open(sqlite_path, shop, guarded=True) as desk:
        yield desk


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def unguarded(sqlite_path: Path, shop: PostgresServer) -> AsyncIterator[Desk]:
    """The same without the guard: what the engines stop alone."""
    async with _open(sqlite_path, shop, guarded=False) as desk:
        yield desk


@asynccontextmanager
async def _open(sqlite_path: Path, shop: PostgresServer, *, guarded: bool) -> AsyncIterator[Desk]:
    writable = ("documents", "pipeline_input")
    audit = MemoryAudit()
    databases = (
        DatabaseSettings(name="sqlite", url=f"sqlite:///{sqlite_path}", tables=_SHOWN, writable=writable),
        DatabaseSettings(name="postgres", url=shop.url(READER), writable=writable),
    )
    async with DatabaseGateway(databases, audit=audit, guarded=guarded) as gateway:
        yield Desk(gateway, audit)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def catalogs(sqlite_path: Path, shop: PostgresServer) -> dict[str, Catalog]:
    """What the guard knows of each engine, read as a worker reads it."""
    sqlite = SqliteDatabase(
        DatabaseSpec(name="sqlite", engine="sqlite", url=f"sqlite:///{sqlite_path}", tables=list(_SHOWN))
    )
    postgres = PostgresDatabase(DatabaseSpec(name="postgres", engine="postgresql", url=shop.url(READER)))
    found = await postgres.catalog()
    await postgres.close()
    tables = sqlite.schema().tables
    sqlite.close()
    return {
        "sqlite": Catalog("sqlite", "main", tables, sqlite.functions),
        "postgres": Catalog("postgres", "public", found.tables, found.functions, found.row_types),
    }
