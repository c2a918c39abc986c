"""Layers one by one, each with what it is there for taken away beside it."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sandboxd.channel.query import ResultColumn
from sandboxd.database.audit import MemoryAudit
from sandboxd.database.errors import DatabaseRoleUnsafe, DatabaseUnavailable, QueryError
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.grants import DatabaseGrant
from sandboxd.database.protocol import DatabaseSpec
from sandboxd.database.settings import DatabaseSettings
from sandboxd.database.worker.refusal import Refusal
from sandboxd.database.worker.sqlite_engine import Run, SqliteDatabase
from tests.database.conftest import READER
from tests.database.engines import CANARY, Desk
from tests.database.postgres_server import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


class _Nowhere:
    def header(self, columns: list[ResultColumn]) -> None: ...

    def chunk(self, rows: int, data: Any) -> None: ...

    def confirm(self, affected: int) -> bool:
        return True


def _run(text: str, readable: set[str]) -> Run:
    return Run(
        text=text, values=(), readable=frozenset(readable), write=None, max_affected_rows=0, max_rows=10,
        max_bytes=1000, chunk_bytes=0, deadline=float("inf"), is_cancelled=lambda: False,
    )  # fmt: skip


# --- SQLite ------------------------------------------------------------------------------------


async def test_authorizer_of_one_execution_does_not_hold_for_the_next(sqlite_path: Path) -> None:
    database = SqliteDatabase(DatabaseSpec(name="x", engine="sqlite", url=f"sqlite:///{sqlite_path}"))
    text = "SELECT secret FROM api_keys"
    for _ in range(3):
        assert database.run(_run(text, {"api_keys"}), _Nowhere()).collector.rows == 1
        with pytest.raises(Refusal):
            database.run(_run(text, {"users"}), _Nowhere())
    database.close()


async def test_control_statement_prepared_under_another_authorizer_keeps_its_rights(
    sqlite_path: Path,
) -> None:
    connection = sqlite3.connect(f"file:{sqlite_path}?mode=ro", uri=True, isolation_level=None)
    allowed = {"api_keys"}

    def authorize(action: int, first: str | None, *_: str | None) -> int:
        denied = action == sqlite3.SQLITE_READ and first not in allowed
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    text = "SELECT secret FROM api_keys"
    connection.execute(text).fetchall()
    allowed.clear()
    assert connection.execute(text).fetchall() == [(CANARY,)]  # the cached statement
    connection.close()


@pytest.mark.parametrize("sql", ["VACUUM INTO 'copy.db'", "ATTACH 'new.db' AS n", "PRAGMA query_only = 0"])
async def test_read_only_mode_alone_lets_files_be_written_but_the_authorizer_does_not(
    sql: str, sqlite_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    database = SqliteDatabase(DatabaseSpec(name="x", engine="sqlite", url=f"sqlite:///{sqlite_path}"))
    with pytest.raises(Refusal):
        database.run(_run(sql, {"users"}), _Nowhere())
    database.close()
    assert list(tmp_path.iterdir()) == []
    connection = sqlite3.connect(f"file:{sqlite_path}?mode=ro", uri=True, isolation_level=None)
    connection.execute(sql)
    if sql.startswith("ATTACH"):
        connection.execute("CREATE TABLE n.t (a)")
    connection.close()
    assert sql.startswith("PRAGMA") or list(tmp_path.iterdir())


async def test_view_is_readable_and_what_is_behind_it_is_not(desk: Desk, unguarded: Desk) -> None:
    shown = await desk.ask("sqlite", "SELECT name FROM active_users LIMIT 1", tables=("active_users",))
    assert shown.rows
    for asked in (desk, unguarded):
        with pytest.raises(QueryError):
            await asked.ask("sqlite", "SELECT plan FROM users", tables=("active_users",))


# --- PostgreSQL --------------------------------------------------------------------------------


async def test_superuser_is_refused_by_name_of_what_it_may(shop: PostgresServer) -> None:
    settings = DatabaseSettings(name="x", url=shop.url("postgres"))
    async with DatabaseGateway((settings,), audit=MemoryAudit(), max_workers=1) as gateway:
        with pytest.raises(DatabaseRoleUnsafe, match="SUPERUSER"):
            await gateway.check("x")
        with pytest.raises(DatabaseRoleUnsafe):
            await Desk(gateway, MemoryAudit()).ask("x", "SELECT 1")


async def test_role_without_hardening_gets_warnings_and_a_hardened_one_none(
    desk: Desk, shop: PostgresServer
) -> None:
    settings = DatabaseSettings(name="x", url=shop.url("plain_reader", "soft"))
    async with DatabaseGateway((settings,), audit=MemoryAudit(), max_workers=1) as gateway:
        _, warnings = await gateway.check("x")
    assert any("pg_sleep" in warning for warning in warnings)
    assert (await desk.gateway.check("postgres"))[1] == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT set_config('search_path', 'pg_temp', false)",
        "SELECT set_config('default_transaction_read_only', 'off', false)",
        "PREPARE leftover AS SELECT 1",
        "LISTEN leftover",
        "SET TIME ZONE 'Europe/Berlin'",
    ],
)
async def test_session_is_scrubbed_after_every_statement(sql: str, unguarded: Desk) -> None:
    await unguarded.ask("postgres", sql)
    state = await unguarded.ask(
        "postgres",
        "SELECT current_setting('search_path'), current_setting('TimeZone'), "
        "current_setting('default_transaction_read_only'), current_setting('statement_timeout') <> '0'",
        sandbox="sbx_next",
    )
    assert state.rows == [('"public"', "UTC", "on", True)]


async def test_advisory_lock_of_an_unhardened_role_does_not_outlive_its_query(shop: PostgresServer) -> None:
    settings = DatabaseSettings(name="x", url=shop.url("plain_reader", "soft"))
    async with DatabaseGateway((settings,), audit=MemoryAudit(), max_workers=1, guarded=False) as gateway:
        desk = Desk(gateway, MemoryAudit())
        await desk.ask("x", "SELECT pg_advisory_lock(99)")
        watcher = await asyncpg.connect(shop.url("postgres", "soft"))
        assert await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        await watcher.close()


async def test_control_advisory_lock_outlives_a_rollback(shop: PostgresServer) -> None:
    connection = await asyncpg.connect(shop.url("plain_reader", "soft"))
    await connection.execute("BEGIN READ ONLY; SELECT pg_advisory_lock(98); ROLLBACK")
    assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 1
    await connection.close()


async def test_transaction_cannot_be_made_writable_by_its_first_statement(unguarded: Desk) -> None:
    with pytest.raises(QueryError):
        await unguarded.ask("postgres", "SET TRANSACTION READ WRITE")


async def test_control_first_statement_makes_a_read_only_transaction_writable(shop: PostgresServer) -> None:
    connection = await asyncpg.connect(shop.url("postgres", "soft"))
    await connection.execute("CREATE TABLE IF NOT EXISTS t (a int)")
    await connection.execute("BEGIN READ ONLY; SET TRANSACTION READ WRITE; INSERT INTO t VALUES (1); COMMIT")
    assert await connection.fetchval("SELECT count(*) FROM t") >= 1
    await connection.close()


async def test_second_statement_does_not_reach_the_server(unguarded: Desk) -> None:
    for sql in ("SELECT 1; SELECT 2", "COMMIT; SELECT 2"):
        with pytest.raises(QueryError):
            await unguarded.ask("postgres", sql)


async def test_cancelling_reaches_the_server(desk: Desk, shop: PostgresServer) -> None:
    endless = "SELECT count(*) FROM generate_series(1, 100000000000)"
    asking = asyncio.create_task(desk.ask("postgres", endless, timeout=30))
    watcher = await asyncpg.connect(shop.url("postgres"))
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1"
    async with asyncio.timeout(10):
        while not await watcher.fetchval(running, endless):
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while await watcher.fetchval(running, endless):
            await asyncio.sleep(0.01)
    await watcher.close()


async def test_connection_that_the_server_closed_is_replaced_unnoticed(
    desk: Desk, shop: PostgresServer
) -> None:
    await desk.ask("postgres", "SELECT 1")
    owner = await asyncpg.connect(shop.url("postgres"))
    ended = await owner.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1", READER
    )
    await owner.close()
    assert ended > 0
    assert await desk.gateway.schemas.tables(DatabaseGrant(database="postgres"), refresh=True)
    for _ in range(4):
        assert (await desk.ask("postgres", "SELECT 1")).rows == [(1,)]


async def test_server_that_is_gone_is_unavailable_and_names_nothing(shop: PostgresServer) -> None:
    url = "postgresql://someone:secret@/nowhere?host=/nonexistent"
    settings = DatabaseSettings(name="x", url=url)
    async with DatabaseGateway((settings,), audit=MemoryAudit(), max_workers=1) as gateway:
        with pytest.raises(DatabaseUnavailable) as caught:
            await Desk(gateway, MemoryAudit()).ask("x", "SELECT 1")
    for word in ("someone", "secret", "nowhere", "nonexistent"):
        assert word not in str(caught.value) + str(caught.value.metadata)
    assert "secret" not in repr(settings)


async def test_worker_is_given_no_url_in_argv_or_environment(desk: Desk) -> None:
    for pid in desk.gateway.worker_pids:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert b"sqlite" not in shown
        assert READER.encode() not in shown
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h/db?read_only-true",
        "postgresql://u@h/db?default_transaction_read_only=off",
        "postgresql://u@h/db?options=-cdefault_transaction_read_only=off",
        "sqlite://relative.db",
        "sqlite:///x.db?mode=rwc",
        "mysql://u@h/db",
        "x.db",
    ],
)
async def test_url_with_anything_unknown_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        DatabaseSettings(name="x", url=url)
    assert url not in str(caught.value)
