"""What must not run does not run; a control shows that each would, where nothing guards."""

import contextlib
import hashlib
import shutil
import sqlite3
from pathlib import Path

import asyncpg
import pytest

from sandboxd.database.errors import QueryError
from sandboxd.database.protocol import RunStatement
from sandboxd.database.worker.planner import Catalog, Planner
from sandboxd.database.worker.refusal import Refusal
from tests.database import attacks_postgres, attacks_sqlite
from tests.database.attacks_postgres import Attack
from tests.database.engines import CANARY, Desk
from tests.database.postgres_server import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

_NAMES = {"sqlite": attacks_sqlite.ATTACKS, "postgres": attacks_postgres.ATTACKS}


async def test_corpora_hold_a_hundred_attacks_an_engine() -> None:
    for attacks in _NAMES.values():
        assert len({attack.sql for attack in attacks}) >= 100


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_attacks_are_refused_and_leave_no_trace(
    engine: str, desk: Desk, shop: PostgresServer, sqlite_path: Path
) -> None:
    before = await _state(engine, shop, sqlite_path)
    ran, leaked = [], []
    for attack in _NAMES[engine]:
        try:
            answer = await desk.ask(engine, attack.sql, timeout=1.0)
        except QueryError as error:
            leaked += [attack.sql] if CANARY in str(error) else []
        else:
            ran.append((attack.sql, answer.rows[:1]))
    assert ran == []
    assert leaked == []
    assert await _state(engine, shop, sqlite_path) == before


@pytest.mark.parametrize(
    "attack", [a for a in attacks_postgres.ATTACKS if a.control], ids=lambda a: a.sql[:60]
)
async def test_control_attack_runs_on_unguarded_postgres(attack: Attack, postgres: PostgresServer) -> None:
    connection = await _victim(postgres)
    try:
        await connection.execute(attack.sql)
    except asyncpg.QueryCanceledError:
        pass  # it ran until the time limit
    finally:
        connection.terminate()


@pytest.mark.parametrize("attack", [a for a in attacks_sqlite.ATTACKS if a.control], ids=lambda a: a.sql[:60])
async def test_control_attack_runs_on_unguarded_sqlite(
    attack: Attack, sqlite_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim.db"
    shutil.copy(sqlite_path, victim)
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect(victim, isolation_level=None, uri=True)
    try:
        if ";" in attack.sql.rstrip(";"):
            connection.executescript(attack.sql)
        else:
            connection.execute(attack.sql).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize(("engine", "least"), [("sqlite", 0.97), ("postgres", 0.97)])
async def test_guard_alone_refuses_nearly_all_attacks(
    engine: str, least: float, catalogs: dict[str, Catalog]
) -> None:
    planner = Planner(guarded=True)
    passed = []
    for attack in _NAMES[engine]:
        order = RunStatement(
            request_id=1,
            database=engine,
            sql=attack.sql,
            max_rows=1,
            max_bytes=1,
            timeout_ms=1,
            chunk_bytes=0,
        )
        with contextlib.suppress(Refusal):
            planner.plan(order, catalogs[engine])
            passed.append(attack.sql)
    assert 1 - len(passed) / len(_NAMES[engine]) >= least, passed


@pytest.mark.parametrize(("engine", "least"), [("sqlite", 0.9), ("postgres", 0.7)])
async def test_engine_alone_stops_most_attacks_and_keeps_the_state(
    engine: str, least: float, unguarded: Desk, shop: PostgresServer, sqlite_path: Path
) -> None:
    before = await _state(engine, shop, sqlite_path)
    ran = []
    for attack in _NAMES[engine]:
        with contextlib.suppress(QueryError):
            await unguarded.ask(engine, attack.sql, timeout=0.3)
            ran.append(attack.sql)
    assert 1 - len(ran) / len(_NAMES[engine]) >= least, ran
    assert await _state(engine, shop, sqlite_path) == before


async def _victim(postgres: PostgresServer) -> "asyncpg.Connection[asyncpg.Record]":
    """A superuser in a database of its own with the same tables."""
    owner = await asyncpg.connect(postgres.url("postgres"))
    try:
        if not await owner.fetchval("SELECT 1 FROM pg_database WHERE datname = 'victim'"):
            await owner.execute("CREATE DATABASE victim")
            fresh = await asyncpg.connect(postgres.url("postgres", "victim"))
            await fresh.execute(
                "CREATE TABLE users (id bigint PRIMARY KEY, name text, email text);"
                f"CREATE TABLE api_keys (id int, secret text); INSERT INTO api_keys VALUES (1, '{CANARY}');"
                "CREATE TABLE salaries (name text, amount int); CREATE SEQUENCE counter;"
                "CREATE VIEW active_users AS SELECT * FROM users; INSERT INTO users VALUES (1, 'a', 'b')"
            )
            await fresh.close()
    finally:
        await owner.close()
    connection = await asyncpg.connect(postgres.url("postgres", "victim"), statement_cache_size=0)
    await connection.execute("SET statement_timeout = '500ms'")
    return connection


async def _state(engine: str, shop: PostgresServer, sqlite_path: Path) -> object:
    """All that an attack could have changed."""
    if engine == "sqlite":
        files = sorted(path.name for path in sqlite_path.parent.iterdir())
        return files, hashlib.sha256(sqlite_path.read_bytes()).hexdigest()
    connection = await asyncpg.connect(shop.url("postgres"))
    try:
        tables = [row[0] for row in await connection.fetch("SELECT relname FROM pg_class ORDER BY 1")]
        large = await connection.fetchval("SELECT count(*) FROM pg_largeobject_metadata")
        locks = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        sums = [
            await connection.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} t")
            for name in ("users", "documents", "api_keys", "salaries", "pipeline_input")
        ]
    finally:
        await connection.close()
    return tables, large, locks, sums
