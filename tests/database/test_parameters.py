"""Parameters fit the type the server infers, or the error names parameter, type and example."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from sandboxd.database.errors import SqlParameterError
from sandboxd.database.worker.binder import bind, fingerprint
from sandboxd.database.worker.lexer import lex
from sandboxd.database.worker.refusal import Refusal
from tests.database.engines import Desk, value_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

_WISHED = "SELECT COUNT(*) as user_count FROM users WHERE created_at > :date"
_MOMENTS: list[Any] = [
    "2024-01-01",
    "2024-01-01 00:00:00",
    "2024-01-01T00:00:00",
    "2024-01-01T00:00:00Z",
    "2024-01-01T02:00:00+02:00",
    date(2024, 1, 1),
    datetime(2024, 1, 1),  # noqa: DTZ001
    datetime(2024, 1, 1, tzinfo=UTC),
]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
@pytest.mark.parametrize("moment", _MOMENTS, ids=str)
async def test_dates_in_every_form_mean_the_same(engine: str, moment: Any, desk: Desk) -> None:
    answer = await desk.ask(engine, _WISHED, date=moment)
    assert answer.columns == ["user_count"]
    assert answer.rows == (await desk.ask(engine, _WISHED, date="2024-01-01")).rows
    assert answer.rows[0][0] == 61


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_text_that_is_no_date_is_refused_with_an_example(engine: str, desk: Desk) -> None:
    with pytest.raises(SqlParameterError) as caught:
        await desk.ask(engine, _WISHED, date="last week")
    assert caught.value.detail["parameter"] == "date"
    assert "2024" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("int8", "42", 42),
        ("int8", 2**63 - 1, 2**63 - 1),
        ("int4", 7.0, 7),
        ("numeric", "12.50", Decimal("12.50")),
        ("numeric", Decimal("1e30"), Decimal("1e30")),
        ("float8", 3, 3.0),
        ("bool", "true", True),
        ("text", 5, "5"),
        ("timestamptz", "2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        ("timestamp", datetime(2024, 1, 31, 12, tzinfo=UTC), datetime(2024, 1, 31, 12)),  # noqa: DTZ001
        ("date", "2024-01-31", date(2024, 1, 31)),
        ("time", "12:30", time(12, 30)),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", UUID("123e4567-e89b-12d3-a456-426614174000")),
        ("bytea", b"\x00\xff", b"\x00\xff"),
        ("int8[]", [1, "2", 3], [1, 2, 3]),
        ("text[]", ["a", None], ["a", None]),
        ("jsonb", {"a": [1, None]}, '{"a": [1, null]}'),
        ("interval", timedelta(days=2, seconds=3), (0, 2, 3_000_000)),
        ("int8", None, None),
    ],
    ids=str,
)
async def test_postgres_values_are_coerced_without_loss(
    kind: str, given: Any, expected: Any, desk: Desk
) -> None:
    answer = await desk.ask("postgres", f"SELECT :x::{kind} AS x", x=given)
    assert answer.rows[0][0] == expected
    assert answer.columns == ["x"]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int8", "abc"),
        ("int8", 1.5),
        ("int8", 2**63),
        ("int2", 40000),
        ("int8", True),
        ("bool", "maybe"),
        ("date", "2024-13-01"),
        ("date", datetime(2024, 1, 1, 5)),  # noqa: DTZ001
        ("uuid", "123"),
        ("int8[]", 1),
        ("int8[]", ["x"]),
        ("text", "a\0b"),
        ("timestamptz", 5),
        ("numeric", "abc"),
        ("interval", "soon"),
    ],
    ids=str,
)
async def test_postgres_values_that_would_lose_are_refused(kind: str, given: Any, desk: Desk) -> None:
    with pytest.raises(SqlParameterError) as caught:
        await desk.ask("postgres", f"SELECT :x::{kind}", x=given)
    assert "x" in caught.value.detail["parameter"]
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (True, 1),
        (2**63 - 1, 2**63 - 1),
        (1.5, 1.5),
        ("it's", "it's"),
        (b"\x00", b"\x00"),
        (None, None),
        (Decimal("12.5"), 12.5),
        (date(2024, 1, 31), "2024-01-31"),
        (datetime(2024, 1, 31, 12, 30), "2024-01-31 12:30:00"),  # noqa: DTZ001
        (UUID(int=5), str(UUID(int=5))),
        ([1, 2], "[1, 2]"),
    ],
    ids=str,
)
async def test_sqlite_takes_natural_python_values(given: Any, expected: Any, desk: Desk) -> None:
    assert (await desk.ask("sqlite", "SELECT :x", x=given)).rows == [(expected,)]


@pytest.mark.parametrize("given", [2**63, Decimal("0.12345678901234567890")], ids=str)
async def test_sqlite_values_that_would_lose_are_refused(given: Any, desk: Desk) -> None:
    with pytest.raises(SqlParameterError):
        await desk.ask("sqlite", "SELECT :x", x=given)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    ("sql", "given"),
    [
        ("SELECT :a", {}),
        ("SELECT 1", {"a": 1}),
        ("SELECT :a", {"a": 1, "b": 2}),
        ("SELECT $1", {}),
        ("SELECT ':a'", {"a": 1}),
        ("SELECT 1 -- :a", {"a": 1}),
    ],
)
async def test_missing_and_superfluous_parameters_are_refused(
    engine: str, sql: str, given: dict[str, Any], desk: Desk
) -> None:
    with pytest.raises(SqlParameterError):
        await desk.ask(engine, sql, **given)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_positions_work_in_place_of_names(engine: str, desk: Desk) -> None:
    sql = "SELECT name FROM users WHERE id = $1 OR id = $2 ORDER BY id"
    assert len((await desk.ask(engine, sql, positional=(1, 2))).rows) == 2
    marks = "SELECT name FROM users WHERE id = ? OR id = ? ORDER BY id"
    assert len((await desk.ask(engine, marks, positional=(1, 2))).rows) == 2


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_a_value_stays_a_value(engine: str, desk: Desk) -> None:
    answer = await desk.ask(
        engine, "SELECT count(*) FROM users WHERE name = :name", name="x' OR '1'='1'; DROP TABLE users --"
    )
    assert answer.rows == [(0,)]


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT ':x', :x", "SELECT ':x', $1"),
        ("SELECT :x::int", "SELECT $1::int"),
        ("SELECT :x, :y, :x", "SELECT $1, $2, $1"),
        ("SELECT $$:x$$, $a$:x$a$, :x", "SELECT $$:x$$, $a$:x$a$, $1"),
        ("SELECT E'\\':x', :x", "SELECT E'\\':x', $1"),
        ('SELECT ":x", :x', 'SELECT ":x", $1'),
        ("SELECT 1 /* :x /* :x */ */ + :x", "SELECT 1                   + $1"),
        ("SELECT 1 -- :x\n + :x", "SELECT 1      \n + $1"),
        ("SELECT a[1:n], :x", "SELECT a[1:n], $1"),
        ("SELECT j ->> ':x', :x", "SELECT j ->> ':x', $1"),
    ],
)
async def test_binder_replaces_parameters_and_nothing_else(sql: str, text: str) -> None:
    given = {name: value_of(1) for name in ("x", "y") if f":{name}" in sql}
    assert bind(lex(sql, "postgres"), "postgres", named=given).text == text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'open", 'SELECT "open', "SELECT /* open", "SELECT $$open", "SELECT (1", "SELECT 1)",
        "SELECT (1]", 'SELECT U&"\\0061"', "SELECT U&'\\0061'", "SELECT 1a",
        "SELECT 1_a", "SELECT \u00a0 1", "SELECT \u200b1",
        "SELECT {fn x}", "SELECT a\\b", "SELECT 'a'; SELECT 'b'", "SELECT @@version", "", " ; ",
    ],
)  # fmt: skip
async def test_text_that_parsers_read_differently_is_refused(sql: str) -> None:
    with pytest.raises(Refusal):
        lex(sql, "sqlite" if "@@" in sql else "postgres")


async def test_fingerprint_ignores_literals_blanks_and_case() -> None:
    marks = {
        fingerprint(lex(sql, "postgres"))
        for sql in (
            "SELECT * FROM t WHERE a = 1",
            "select *  from T where a = 'x' -- note",
            "SELECT * FROM t WHERE a=2",
        )
    }
    assert len(marks) == 1
    assert fingerprint(lex("SELECT * FROM u WHERE a = 1", "postgres")) not in marks
