"""Values keep their type from the engine to whoever asked."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from sandboxd.database.worker.parameters import Interval
from tests.database.engines import Desk

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("NULL::int", None),
        ("true", True),
        ("9007199254740993::int8", 9007199254740993),
        ("(-9223372036854775808)::int8", -(2**63)),
        ("1.5::float8", 1.5),
        ("'Infinity'::float8", float("inf")),
        ("12.50::numeric", Decimal("12.50")),
        ("1e40::numeric", Decimal("1e40")),
        ("'it''s'::text", "it's"),
        ("'\\x00ff'::bytea", b"\x00\xff"),
        ("'2024-01-31 12:30:00.5+02'::timestamptz", datetime(2024, 1, 31, 10, 30, 0, 500000, tzinfo=UTC)),
        ("'2024-01-31 12:30'::timestamp", datetime(2024, 1, 31, 12, 30)),  # noqa: DTZ001
        ("'2024-01-31'::date", date(2024, 1, 31)),
        ("'12:30:00.25'::time", time(12, 30, 0, 250000)),
        ("'1 year 2 days 03:00'::interval", Interval(12, 2, 3 * 3600 * 10**6)),
        ("'123e4567-e89b-12d3-a456-426614174000'::uuid", UUID("123e4567-e89b-12d3-a456-426614174000")),
        ("'{\"a\": [1, null]}'::jsonb", '{"a": [1, null]}'),
        ("ARRAY[1, NULL, 3]", [1, None, 3]),
        ("ARRAY[['a'], ['b']]", [["a"], ["b"]]),
        ("'[1,5)'::int4range", "[1,5)"),
        ("'10.0.0.1'::inet", "10.0.0.1"),
        ("B'101'", "101"),
        ("ROW(1, 'a')::text", "(1,a)"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_postgres_value_comes_out_as_its_python_type(sql: str, expected: Any, desk: Desk) -> None:
    answer = await desk.ask("postgres", f"SELECT {sql} AS x")
    assert answer.rows[0][0] == expected
    assert type(answer.rows[0][0]) is type(expected) or isinstance(answer.rows[0][0], type(expected))


async def test_sqlite_columns_come_out_as_they_are_declared(desk: Desk) -> None:
    answer = await desk.ask("sqlite", "SELECT id, is_active, created_at, name FROM users ORDER BY id LIMIT 1")
    number, active, created, name = answer.rows[0]
    assert (number, type(active), type(created), type(name)) == (1, bool, datetime, str)
    details = await desk.ask("sqlite", "SELECT details FROM user_activities LIMIT 1")
    assert "duration_ms" in details.rows[0][0]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_columns_with_null_keep_their_kind(engine: str, desk: Desk) -> None:
    answer = await desk.ask(engine, "SELECT content, score FROM pipeline_input ORDER BY id LIMIT 4")
    assert [content is None for content, _ in answer.rows] == [False, False, True, False]
    assert all(isinstance(score, float) for _, score in answer.rows)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_repeated_names_are_kept_and_said(engine: str, desk: Desk) -> None:
    answer = await desk.ask(engine, "SELECT id, id FROM users ORDER BY id LIMIT 1")
    assert answer.columns == ["id", "id"]
    assert "repeated column names: id" in answer.ended.warnings[0]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_empty_result_has_its_columns(engine: str, desk: Desk) -> None:
    answer = await desk.ask(engine, "SELECT id, name FROM users WHERE id < 0")
    assert (answer.columns, answer.rows) == (["id", "name"], [])
