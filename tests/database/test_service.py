"""The whole way through server and client: the wish-list on both engines, errors, the audit."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from sandboxd_api.v1 import database_service_pb2 as pb
from sandboxd_api.v1 import database_service_pb2_grpc
from sandboxd_client import (
    Client,
    DatabaseGrant,
    Limits,
    QueryLimits,
    Sandbox,
    SandboxService,
    WriteGrant,
    errors,
)

from tests.database import wishlist
from tests.database.conftest import READER
from tests.database.postgres_server import PostgresServer
from tests.support.server_process import Server, server_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("database", ["sample", "shop"]),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, shop: PostgresServer) -> Iterator[Server]:
    settings = {
        "databases__shop__url": shop.url(READER, "served"),
        "databases__shop__writable": "documents",
        "sample_database": "true",
    }
    with server_process(tmp_path_factory.mktemp("server"), **settings) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def client(both: Server) -> AsyncIterator[Client]:
    async with Client.connect(both.tcp, token=both.token) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def service(both: Server) -> AsyncIterator[SandboxService]:
    async with await SandboxService.connect(both.tcp, token=both.token) as service:
        yield service


def _config(database: str, *, writes: bool = False) -> dict[str, object]:
    write = WriteGrant(table="documents", operation="update", columns=["processed"])
    grant = DatabaseGrant(database=database, is_default=True, write_grants=[write] if writes else [])
    return {"databases": [grant], "max_execution_time": 30, "enable_debugging": True}


async def test_quick_start_reads_users(database: str, service: SandboxService) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    result = await service.execute_code(sandbox_id, wishlist.QUICK_START)
    assert result.status == "completed", result.error
    assert result.result["total_users"] == 10
    assert all("@" not in user["domain"] for user in result.result["processed_users"])


async def test_query_database_counts_users_since_a_date(database: str, service: SandboxService) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    counted = await service.query_database(
        sandbox_id,
        "SELECT COUNT(*) as user_count FROM users WHERE created_at > :date",
        {"date": "2024-01-01"},
    )
    assert counted[0]["user_count"] == 61
    schema = await service.get_database_schema(sandbox_id)
    assert {"users", "user_activities", "documents", "pipeline_input"} <= set(schema["tables"])
    found = await service.query_database(
        sandbox_id, "SELECT * FROM users WHERE created_at > :date", {"date": "2024-01-01"}
    )
    assert len(found) == 61
    assert found[0]["created_at"].year == 2024


async def test_data_analysis_agent_finds_active_users(database: str, service: SandboxService) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    result = await service.execute_code(sandbox_id, wishlist.DATA_ANALYSIS)
    assert result.status == "completed", result.error
    assert result.result["total_activities"] > 100
    assert len(result.result["most_active_users"]) == 10


async def test_knowledge_extraction_agent_needs_its_grant(database: str, service: SandboxService) -> None:
    refused = await service.create_agent_sandbox(user_id=1, config=_config(database))
    result = await service.execute_code(refused, wishlist.KNOWLEDGE_EXTRACTION)
    assert result.status == "failed"
    assert "write grant" in str(result.error)
    granted = await service.create_agent_sandbox(user_id=1, config=_config(database, writes=True))
    result = await service.execute_code(granted, wishlist.KNOWLEDGE_EXTRACTION)
    assert result.status == "completed", result.error
    assert result.result["processed_documents"] == 20
    assert any(item["entities"]["emails"] for item in result.result["extracted_knowledge"])


async def test_pipeline_debugging_agent_sees_missing_content(database: str, service: SandboxService) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    result = await service.execute_code(sandbox_id, wishlist.PIPELINE_DEBUGGING)
    assert result.status == "completed", result.error
    assert result.result["input_count"] == 5
    assert result.result["valid_output_count"] < 5


async def test_available_functions_answer_with_and_without_await(
    database: str, service: SandboxService
) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    code = """
results = await db_query("SELECT * FROM users WHERE id = :id", {"id": 1})
tables = await db_tables()
schema = await db_schema("users")
rows = db_query("SELECT id, name FROM users ORDER BY id")
frame = rows.df()
__result__ = [len(results), "users" in str(tables), "email" in str(schema), len(rows), rows[0]["id"],
              [row["id"] for row in rows[1:3]], list(frame.columns), len(frame)]
"""
    result = await service.execute_code(sandbox_id, code)
    assert result.status == "completed", result.error
    assert result.result == [1, True, True, 120, 1, [2, 3], ["id", "name"], 120]


async def test_error_has_reason_and_hint_in_the_guest_and_outside(
    database: str, service: SandboxService, client: Client
) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    code = """
found = []
for sql in ("SELECT * FROM nothing_here", "DELETE FROM users", "SELECT 1; SELECT 2", "VACUUM"):
    try:
        await db_query(sql)
    except Exception as error:
        found.append((error.reason, bool(error.hint)))
__result__ = found
"""
    result = await service.execute_code(sandbox_id, code)
    assert result.status == "completed", result.error
    assert [reason for reason, _ in result.result] == [
        "SQL_UNDEFINED",
        "SQL_WRITE_NOT_GRANTED",
        "SQL_MULTIPLE_STATEMENTS",
        "SQL_STATEMENT_DENIED",
    ]
    assert result.result[1][1]
    with pytest.raises(errors.SandboxdError) as caught:
        await service.query_database(sandbox_id, "DELETE FROM users")
    assert caught.value.reason == "SQL_WRITE_NOT_GRANTED"
    assert "write grant" in str(caught.value)


async def test_every_attempt_is_in_the_audit_with_its_line(
    database: str, service: SandboxService, client: Client
) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    await service.execute_code(sandbox_id, "x = 1\nawait db_query('SELECT 1')\n")
    with pytest.raises(errors.SandboxdError):
        await service.query_database(sandbox_id, "DROP TABLE users")
    sandbox = await client.get_sandbox(sandbox_id)
    entries = await sandbox.audit()
    assert [(entry.sql, entry.verdict.lower(), entry.line) for entry in entries] == [
        ("DROP TABLE users", "refused", 0),
        ("SELECT 1", "completed", 2),
    ]
    assert entries[0].layer.lower() == "guard"
    assert entries[1].execution_id


@pytest.mark.parametrize("origin", ["grpc", "sandbox"])
async def test_oversized_statement_leaves_a_record_that_tells_it_from_others(
    origin: str, database: str, service: SandboxService, client: Client
) -> None:
    """This used to be refused at the edge, where nobody wrote it down."""
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    for letter in "xyx":
        sql = f"SELECT '{'a' * 70_000}{letter}'"
        if origin == "grpc":
            with pytest.raises(errors.SandboxdError, match="longer than 65536") as caught:
                await service.query_database(sandbox_id, sql)
            assert caught.value.reason == "SQL_TOO_COMPLEX"
        else:
            code = f"try:\n  db_query({sql!r})\nexcept DatabaseError as error:\n  __result__ = error.reason"
            assert (await service.execute_code(sandbox_id, code)).result == "SQL_TOO_COMPLEX"
    entries = await (await client.get_sandbox(sandbox_id)).audit()
    found = [(entry.verdict.lower(), entry.reason, len(entry.sql)) for entry in entries]
    assert found == [("refused", "SQL_TOO_COMPLEX", 32 * 1024)] * 3
    marks = [entry.fingerprint for entry in entries]
    assert marks[0] == marks[2] != marks[1]
    assert len(marks[0]) == 16


async def test_request_with_wrong_caps_leaves_a_record(
    database: str, service: SandboxService, client: Client
) -> None:
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    sandbox = await client.get_sandbox(sandbox_id)
    with pytest.raises(errors.InvalidArgument):
        await sandbox.query("SELECT 1", limits=QueryLimits(max_rows=10**9))
    assert [(entry.verdict.lower(), entry.sql) for entry in await sandbox.audit()] == [
        ("refused", "SELECT 1")
    ]


async def test_database_that_is_not_granted_looks_missing(
    database: str, service: SandboxService, client: Client
) -> None:
    other = "shop" if database == "sample" else "sample"
    sandbox_id = await service.create_agent_sandbox(user_id=1, config=_config(database))
    texts = []
    for name in (other, "missing_one"):
        with pytest.raises(errors.SandboxdError) as caught:
            await service.query_database(sandbox_id, "SELECT 1", database=name)
        texts.append(str(caught.value).replace(name, "?"))
    assert texts[0] == texts[1]
    entries = await (await client.get_sandbox(sandbox_id)).audit()
    assert [(entry.verdict.lower(), entry.layer.lower()) for entry in entries] == [("refused", "grant")] * 2


async def test_stream_is_numbered_and_its_messages_are_small(
    database: str, both: Server, client: Client
) -> None:
    grant = DatabaseGrant(database=database, is_default=True, query_limits=QueryLimits(max_rows=50_000))
    async with client.create_sandbox(databases=[grant]) as sandbox:
        request = pb.QueryRequest(
            sandbox_id=sandbox.id,
            sql="SELECT a.id, a.timestamp, a.action, a.details, a.user_id FROM user_activities a "
            "JOIN (SELECT id FROM users LIMIT 20) u ON a.id > 0",
        )
        async with grpc.aio.insecure_channel(both.tcp) as channel:
            stub = database_service_pb2_grpc.DatabaseServiceStub(channel)
            call = stub.Query(request, metadata=(("authorization", f"Bearer {both.token}"),))
            events = [event async for event in call]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.WhichOneof("event") for event in events] == [
        "header",
        *["rows"] * (len(events) - 2),
        "trailer",
    ]
    assert max(event.ByteSize() for event in events) < 1 << 20
    assert sum(event.rows.row_count for event in events) == events[-1].trailer.row_count == 48_000


_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_call_that_its_client_gives_up_ends_the_statement(
    database: str, both: Server, client: Client
) -> None:
    grant = DatabaseGrant(database=database, is_default=True, query_limits=QueryLimits(timeout=50))
    async with client.create_sandbox(databases=[grant]) as sandbox:
        async with grpc.aio.insecure_channel(both.tcp) as channel:
            stub = database_service_pb2_grpc.DatabaseServiceStub(channel)
            call = stub.Query(
                pb.QueryRequest(sandbox_id=sandbox.id, sql=_ENDLESS),
                metadata=(("authorization", f"Bearer {both.token}"),),
            )
            reading = asyncio.ensure_future(call.read())
            await asyncio.sleep(0.5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        await _recorded_as(sandbox, "cancelled")


async def test_execution_that_times_out_takes_its_query_along(database: str, client: Client) -> None:
    grant = DatabaseGrant(database=database, is_default=True, query_limits=QueryLimits(timeout=50))
    async with client.create_sandbox(databases=[grant], limits=Limits(execution_timeout=1)) as sandbox:
        result = await sandbox.execute(f"await db_query({_ENDLESS!r})")
        assert result.status == "timed_out"
        await _recorded_as(sandbox, "cancelled")


async def _recorded_as(sandbox: Sandbox, verdict: str) -> None:
    async with asyncio.timeout(10):
        while not (entries := await sandbox.audit()):
            await asyncio.sleep(0.05)
    assert [entry.verdict.lower() for entry in entries] == [verdict]


async def test_server_does_not_start_as_superuser(
    database: str, tmp_path: Path, shop: PostgresServer
) -> None:
    if database == "sample":
        pytest.skip("SQLite has no roles")
    environment = {"SANDBOXD_DATABASES__SHOP__URL": shop.url("postgres"), "PATH": os.environ["PATH"]}
    places = ["--port", "0", "--data-directory", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", "sandboxd", "serve", *places],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode != 0
    assert "SUPERUSER" in ended.stdout + ended.stderr
    assert "harden_postgres.sql" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
