"""Mutants of statements: what the guard accepts, the engine must not find to be more than was accepted.

A few seconds by default; `SANDBOXD_FUZZ_SECONDS=300` looks longer.
"""

import os
import random
import re
import sqlite3
import time
from pathlib import Path

import asyncpg
import pytest

from sandboxd.database.protocol import RunStatement
from sandboxd.database.worker.planner import Catalog, Planner
from sandboxd.database.worker.refusal import Refusal
from tests.database import attacks_postgres, attacks_sqlite
from tests.database.benign import STATEMENTS
from tests.database.postgres_server import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

_SECONDS = float(os.environ.get("SANDBOXD_FUZZ_SECONDS", "4"))
_PIECES = [
    *[
        "'",
        '"',
        ";",
        "--",
        "/*",
        "*/",
        "$$",
        "\\",
        "(",
        ")",
        ".",
        ",",
        "::",
        "E'",
        "U&'",
        "::regclass",
        "UNION",
        "api_keys",
        "pg_sleep(0)",
        "(x).pg_sleep",
        "INTO",
        "FOR",
        "UPDATE",
        "@",
        "?",
        ":p",
        "set_config('a','b',true)",
        "load_extension('x')",
        "0x",
        "1e",
        "AS",
        "WITH",
        "SELECT",
        "LATERAL",
        "VALUES",
        "TABLE",
        "current_user",
        "::oid",
        "[",
        "]",
        "`",
        "pragma_table_info('users')",
        "sqlite_master",
        "FROM",
        "JOIN",
        "ON",
        "(",
        ")",
        ")",
        "(",
        "*",
        "||",
        "<>",
        "IN",
        "NOT",
        "EXISTS",
    ],
    *("\n", "\t", "\u00a0", " "),
]
_LITERAL = re.compile(r"'(?:[^']|'')*'")


def _mutants(engine: str, chance: random.Random) -> list[str]:
    attacks = attacks_postgres.ATTACKS if engine == "postgres" else attacks_sqlite.ATTACKS
    seeds = STATEMENTS[engine] * 2 + [attack.sql for attack in attacks]
    found = []
    for _ in range(200):
        text = chance.choice(seeds)
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(text) + 1)
            match chance.randrange(4):
                case 0:
                    text = text[:place] + chance.choice(_PIECES) + text[place:]
                case 1:
                    text = text[:place] + text[place + chance.randrange(1, 6) :]
                case 2:
                    other = chance.choice(seeds)
                    text = text[:place] + other[chance.randrange(len(other) + 1) :]
                case _:
                    end = min(len(text), place + chance.randrange(1, 20))
                    text = text[:end] + text[place:end] + text[end:]
        found.append(text[:4000])
    return found


def _accepted(engine: str, planner: Planner, catalog: Catalog, sql: str) -> str | None:
    order = RunStatement(
        request_id=1, database=engine, sql=sql, max_rows=1, max_bytes=1, timeout_ms=1, chunk_bytes=0
    )
    try:
        return planner.plan(order, catalog).text
    except (Refusal, RecursionError):
        return None


def _quick(sql: str) -> bool:
    """Nested calls of type names take sqlglot long; a worker is killed for it, a test would only wait."""
    return (
        max(sql.count(word) for word in ("date(", "time(", "varchar(", "decimal(", "ARRAY[", "int[", "(("))
        < 8
    )


async def test_what_the_guard_accepts_changes_and_leaks_nothing_on_sqlite(
    catalogs: dict[str, Catalog], sqlite_path: Path
) -> None:
    chance = random.Random(time.time_ns())
    planner, catalog = Planner(guarded=True), catalogs["sqlite"]
    touched: list[tuple[str, str]] = []
    seen: set[str] = set()
    connection = sqlite3.connect(f"file:{sqlite_path}?mode=ro", uri=True, isolation_level=None)

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            seen.add(str(first))
        elif action not in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE):
            seen.add(f"action {action}")
        return sqlite3.SQLITE_OK

    connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')").close()
    connection.set_authorizer(authorize)
    tried = accepted = 0
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        for sql in filter(_quick, _mutants("sqlite", chance)):
            tried += 1
            text = _accepted("sqlite", planner, catalog, sql)
            if text is None:
                continue
            accepted += 1
            seen.clear()
            try:
                connection.execute(
                    f"EXPLAIN {text}" if not text.upper().lstrip().startswith("EXPLAIN") else text
                )
            except (sqlite3.Error, sqlite3.Warning):
                continue
            if bad := seen & {"api_keys", "salaries", "sqlite_master", "sqlite_stat1"} or {
                item for item in seen if item.startswith("action")
            }:
                touched.append((sql, str(bad)))
    connection.close()
    assert touched == []
    assert accepted > 50, (tried, accepted)


_DANGEROUS = (
    '"Relation Name": "api_keys"', '"Relation Name": "salaries"',
    '"Node Type": "ModifyTable"', '"Node Type": "LockRows"',
    "pg_sleep(", "pg_read_file(", "set_config(", "lo_create(",
)  # fmt: skip
"""What no plan of an accepted statement may hold."""


async def test_what_the_guard_accepts_is_one_query_of_granted_tables_on_postgres(
    catalogs: dict[str, Catalog], shop: PostgresServer
) -> None:
    chance = random.Random(time.time_ns())
    planner, catalog = Planner(guarded=True), catalogs["postgres"]
    connection = await asyncpg.connect(shop.url("postgres"), statement_cache_size=0)
    await connection.execute("SET default_transaction_read_only = on; SET statement_timeout = '2s'")
    dangerous: list[tuple[str, str]] = []
    tried = accepted = 0
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        for sql in filter(_quick, _mutants("postgres", chance)):
            tried += 1
            text = _accepted("postgres", planner, catalog, sql)
            if text is None or text.upper().lstrip().startswith("EXPLAIN"):
                continue
            accepted += 1
            try:
                plan = await connection.fetchval(f"EXPLAIN (VERBOSE, FORMAT JSON) {text}")
            except asyncpg.PostgresError:
                continue
            outside_literals = _LITERAL.sub("''", plan)
            dangerous += [(sql, sign) for sign in _DANGEROUS if sign in outside_literals]
    await connection.close()
    assert dangerous == []
    assert accepted > 50, (tried, accepted)
