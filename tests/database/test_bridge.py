"""PostgreSQL's constructs on SQLite: the same rows, or a refusal that names the construct."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sandboxd.database.errors import DialectUnsupported
from sandboxd.database.worker.bridge import bridge
from sandboxd.database.worker.lexer import lex
from tests.database.bridged import CARRIED, REFUSED, Carried, table
from tests.database.engines import Desk

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _comparable(cell: Any) -> Any:
    """Both engines' forms of one value: SQLite has text for times that it computes, and 0 and 1."""
    if isinstance(cell, bool):
        return int(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, Decimal | float):
        return round(float(cell), 6)
    return cell


@pytest.mark.parametrize("item", CARRIED, ids=lambda item: item.sql[:70])
async def test_carried_construct_gives_postgres_rows(item: Carried, desk: Desk) -> None:
    given = {"ids": [1, 3, 5]} if ":ids" in item.sql else {}
    expected = await desk.ask("postgres", item.sql, **given)
    found = await desk.ask("sqlite", item.sql, **given)
    assert found.columns == expected.columns
    assert [tuple(map(_comparable, row)) for row in found.rows] == [
        tuple(map(_comparable, row)) for row in expected.rows
    ]


@pytest.mark.parametrize(("construct", "sql"), REFUSED, ids=lambda text: text[:60])
async def test_other_construct_is_refused_by_name(construct: str, sql: str, desk: Desk) -> None:
    with pytest.raises(DialectUnsupported) as caught:
        await desk.ask("sqlite", sql)
    assert caught.value.detail["construct"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT strftime('%Y', created_at) FROM users",
        "SELECT CAST(1.9 AS INTEGER)",
        "SELECT date('now', '-7 days')",
        "SELECT name AS date FROM users",
        "SELECT 'interval', '::', '~*'",
        "SELECT id + 1, id - 1 FROM users",
    ],
)
async def test_sqlite_flavoured_statement_is_left_alone(sql: str) -> None:
    assert bridge(sql, lex(sql, "sqlite")) is None


async def test_bridged_statement_says_so_and_is_judged_as_it_runs(desk: Desk) -> None:
    answer = await desk.ask("sqlite", "SELECT name FROM users WHERE created_at > now() - interval '3 years'")
    assert answer.ended.warnings == ("bridged to SQLite: date arithmetic",)
    assert "BRIDGE_ADD_INTERVAL" in answer.started.bridged_sql.upper()


async def test_published_table_is_the_tested_one() -> None:
    documentation = Path(__file__).parents[2] / "docs/database.md"
    assert table() in documentation.read_text(encoding="utf-8")
