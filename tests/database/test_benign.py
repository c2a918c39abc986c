"""No analytic statement is refused, and each gives what the plain driver gives."""

import sqlite3
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest

from sandboxd.database.errors import QueryError
from tests.database.benign import POSTGRES, SQLITE, STATEMENTS
from tests.database.engines import Desk
from tests.database.postgres_server import PostgresServer

_VARYING = ("now()", "random", "EXPLAIN", "TABLESAMPLE", "range", "interval", "ROW")
"""Statements whose rows differ from run to run, or whose values print in two ways."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_analytic_statements_all_run(engine: str, desk: Desk) -> None:
    refused = []
    for sql in STATEMENTS[engine]:
        try:
            await desk.ask(engine, sql)
        except QueryError as error:
            refused.append((sql, str(error)))
    assert refused == []


async def test_sqlite_rows_are_those_of_the_plain_driver(desk: Desk, sqlite_path: Path) -> None:
    connection = sqlite3.connect(f"file:{sqlite_path}?mode=ro", uri=True)
    connection.create_function("regexp", 2, lambda pattern, text: pattern.strip("^") == text[:1])
    different = []
    for sql in SQLITE:
        if "random" in sql or "now" in sql or "sqrt" in sql or "EXPLAIN" in sql:
            continue
        expected = connection.execute(sql).fetchall()
        answer = await desk.ask("sqlite", sql)
        if [tuple(map(_plain, row)) for row in answer.rows] != [tuple(map(_plain, row)) for row in expected][
            :1000
        ]:
            different.append(sql)
    connection.close()
    assert different == []


def _plain(cell: object) -> str:
    """A cell as SQLite stores it."""
    if isinstance(cell, bool):
        return str(int(cell))
    return cell.isoformat(" ") if isinstance(cell, datetime) else str(cell)


async def test_postgres_rows_are_those_of_the_plain_driver(desk: Desk, shop: PostgresServer) -> None:
    connection = await asyncpg.connect(shop.url("postgres"), server_settings={"timezone": "UTC"})
    different = []
    for sql in POSTGRES:
        if any(
            word in sql for word in ("now()", "random", "EXPLAIN", "TABLESAMPLE", "range", "interval", "ROW")
        ):
            continue
        expected = [tuple(row.values()) for row in await connection.fetch(sql)]
        answer = await desk.ask("postgres", sql)
        if [tuple(map(str, row)) for row in answer.rows] != [tuple(map(str, row)) for row in expected]:
            different.append(sql)
    await connection.close()
    assert different == []
