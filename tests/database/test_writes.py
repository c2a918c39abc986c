"""Granted writes run, all others are refused, and a write over its cap leaves nothing behind."""

import json

import pytest

from sandboxd.database.audit import AuditFailed, AuditFilter, QueryRecord, Verdict
from sandboxd.database.errors import (
    AffectedRowsLimit,
    QueryDenied,
    QueryError,
    QueryNotRecorded,
    SqlConstraintViolated,
    SqlStatementDenied,
    SqlWriteNotGranted,
)
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.grants import Operation, WriteGrant
from tests.database.engines import UPDATE_PROCESSED, Desk

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("engine", ["sqlite", "postgres"]),
]

_MARK = "UPDATE documents SET processed = true WHERE id = :id"
_INSERT = WriteGrant(
    table="pipeline_input", operation=Operation.INSERT, columns=("id", "source", "content", "received_at")
)
_DELETE = WriteGrant(table="pipeline_input", operation=Operation.DELETE)


async def _is_processed(desk: Desk, engine: str, number: int) -> bool:
    answer = await desk.ask(engine, "SELECT processed FROM documents WHERE id = :id", id=number)
    return bool(answer.rows[0][0])


async def test_update_without_grant_shows_the_grant_to_ask_for(engine: str, desk: Desk) -> None:
    with pytest.raises(SqlWriteNotGranted) as caught:
        await desk.ask(engine, _MARK, id=1)
    assert json.loads(caught.value.detail["grant"]) == {
        "table": "documents",
        "operation": "UPDATE",
        "columns": ["processed"],
    }
    assert not await _is_processed(desk, engine, 1)


async def test_update_with_grant_changes_the_row(engine: str, desk: Desk) -> None:
    assert not await _is_processed(desk, engine, 2)
    answer = await desk.ask(engine, _MARK, id=2, writes=(UPDATE_PROCESSED,))
    assert answer.ended.affected == 1
    assert answer.rows == []
    assert await _is_processed(desk, engine, 2)


async def test_update_returns_rows_it_is_asked_for(engine: str, desk: Desk) -> None:
    answer = await desk.ask(engine, f"{_MARK} RETURNING id, title", id=4, writes=(UPDATE_PROCESSED,))
    assert answer.columns == ["id", "title"]
    assert answer.rows[0][0] == 4


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE documents SET title = 'x' WHERE id = 1",
        "UPDATE documents SET processed = true, title = 'x' WHERE id = 1",
        "UPDATE documents SET (processed, title) = (true, 'x') WHERE id = 1",
        "UPDATE users SET name = 'x'",
        "DELETE FROM documents WHERE id = 1",
        "INSERT INTO documents (id, title) VALUES (1000, 'x')",
        "INSERT INTO documents (id, title) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET processed = true",
        "INSERT INTO documents SELECT * FROM documents WHERE false",
        "WITH d AS (UPDATE documents SET processed = true RETURNING id) SELECT * FROM d",
        "UPDATE api_keys SET secret = 'x'",
        "UPDATE documents SET processed = (SELECT true FROM api_keys)",
        "UPDATE documents SET processed = true WHERE title IN (SELECT secret FROM api_keys)",
        "UPDATE documents SET processed = true FROM api_keys",
        "UPDATE documents SET processed = true RETURNING (SELECT secret FROM api_keys)",
    ],
)
async def test_anything_beyond_the_grant_is_refused(engine: str, desk: Desk, sql: str) -> None:
    with pytest.raises(QueryError) as caught:
        await desk.ask(engine, sql, writes=(UPDATE_PROCESSED,))
    assert isinstance(caught.value, QueryDenied) or caught.value.reason in ("SQL_UNDEFINED", "SQL_SYNTAX")


async def test_write_over_its_cap_is_rolled_back(engine: str, desk: Desk) -> None:
    before = (await desk.ask(engine, "SELECT count(*) FROM documents WHERE processed")).rows
    with pytest.raises(AffectedRowsLimit):
        await desk.ask(
            engine, "UPDATE documents SET processed = true", writes=(UPDATE_PROCESSED,), max_affected_rows=5
        )
    assert (await desk.ask(engine, "SELECT count(*) FROM documents WHERE processed")).rows == before


async def test_insert_and_delete_by_grant(engine: str, desk: Desk) -> None:
    insert = (
        "INSERT INTO pipeline_input (id, source, content, received_at) "
        "VALUES (:id, :source, :content, :received)"
    )
    given = {"id": 9001, "source": "mail", "content": "it's :here", "received": "2024-05-01T10:00:00Z"}
    answer = await desk.ask(engine, insert, writes=(_INSERT,), **given)
    assert answer.ended.affected == 1
    stored = await desk.ask(engine, "SELECT content, received_at FROM pipeline_input WHERE id = 9001")
    assert stored.rows[0][0] == "it's :here"
    assert stored.rows[0][1].isoformat() == "2024-05-01T10:00:00"
    with pytest.raises(SqlConstraintViolated):
        await desk.ask(engine, insert, writes=(_INSERT,), **given)
    gone = await desk.ask(engine, "DELETE FROM pipeline_input WHERE id = 9001", writes=(_DELETE,))
    assert gone.ended.affected == 1


async def test_replace_is_refused_although_insert_is_granted(engine: str, desk: Desk) -> None:
    if engine == "postgres":
        pytest.skip("SQLite's word")
    with pytest.raises(SqlStatementDenied):
        await desk.ask(
            engine, "INSERT OR REPLACE INTO pipeline_input (id, source) VALUES (1, 'x')", writes=(_INSERT,)
        )


async def test_record_is_written_before_the_commit(engine: str, desk: Desk) -> None:
    seen: list[tuple[Verdict, bool]] = []

    class Watching:
        async def record(self, entry: QueryRecord) -> None:
            if entry.kind == "update":
                seen.append((entry.verdict, await _is_processed(desk, engine, 5)))

    databases = (desk.gateway.databases[engine],)
    async with DatabaseGateway(databases, audit=Watching(), max_workers=1) as gateway:
        await Desk(gateway, desk.audit).ask(engine, _MARK, id=5, writes=(UPDATE_PROCESSED,))
        await gateway.recorded()
    assert seen == [(Verdict.STARTED, False), (Verdict.COMPLETED, True)]


async def test_write_that_cannot_be_recorded_is_not_made(engine: str, desk: Desk) -> None:
    class Full:
        async def record(self, entry: QueryRecord) -> None:
            raise AuditFailed("disk full")

    databases = (desk.gateway.databases[engine],)
    async with DatabaseGateway(databases, audit=Full(), max_workers=1) as gateway:
        with pytest.raises(QueryNotRecorded):
            await Desk(gateway, desk.audit).ask(engine, _MARK, id=7, writes=(UPDATE_PROCESSED,))
    assert not await _is_processed(desk, engine, 7)


async def test_write_leaves_a_record_with_its_columns(engine: str, desk: Desk) -> None:
    await desk.ask(engine, _MARK, id=8, writes=(UPDATE_PROCESSED,), sandbox=f"sbx_written_{engine}")
    await desk.gateway.recorded()
    entries, _ = await desk.audit.list(AuditFilter(sandbox_id=f"sbx_written_{engine}"), page_size=5)
    (entry,) = entries
    assert entry.verdict is Verdict.COMPLETED
    assert (entry.kind, entry.tables, entry.written_columns) == ("update", ("documents",), ("processed",))
    assert entry.affected == 1
    assert entry.parameters[0].redacted
