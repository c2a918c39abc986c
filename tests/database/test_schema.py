"""Schemas tell what an agent needs and nothing of what is hidden."""

import time

import asyncpg
import pytest

from sandboxd.database.audit import MemoryAudit
from sandboxd.database.errors import QueryTextError, SqlUndefined, TableNotFound
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.grants import DatabaseGrant
from sandboxd.database.settings import DatabaseSettings
from tests.database.engines import Desk
from tests.database.postgres_server import PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

_ENGINES = pytest.mark.parametrize("engine", ["sqlite", "postgres"])
_SHOWN = ["active_users", "documents", "pipeline_input", "user_activities", "users"]


@_ENGINES
async def test_schema_holds_what_may_be_read_and_nothing_else(engine: str, desk: Desk) -> None:
    tables = await desk.gateway.schemas.tables(DatabaseGrant(database=engine))
    assert [table.name for table in tables] == _SHOWN


@_ENGINES
async def test_table_has_columns_keys_both_ways_indexes_and_an_estimate(engine: str, desk: Desk) -> None:
    schemas = desk.gateway.schemas
    grant = DatabaseGrant(database=engine)
    users = await schemas.table(grant, "users")
    assert [column.name for column in users.columns][:3] == ["id", "name", "email"]
    assert users.primary_key == ("id",)
    assert {reference.table for reference in users.referenced_by} == {"documents", "user_activities"}
    assert any(index.unique and index.columns == ("email",) for index in users.indexes)
    assert users.estimated_rows == 120
    assert not users.columns[1].nullable
    assert users.columns[3].default == ("'free'" if engine == "sqlite" else "'free'::text")
    documents = await schemas.table(grant, "documents")
    assert documents.foreign_keys[0].target_table == "users"
    assert documents.foreign_keys[0].target_columns == ("id",)
    assert (await schemas.table(grant, "active_users")).kind == "view"


async def test_comments_come_from_the_catalogue(desk: Desk) -> None:
    users = await desk.gateway.schemas.table(DatabaseGrant(database="postgres"), "users")
    assert users.comment == "People with an account"
    assert users.columns[3].comment == "free, team or enterprise"


@_ENGINES
async def test_grant_narrows_what_is_shown(engine: str, desk: Desk) -> None:
    grant = DatabaseGrant(database=engine, tables=("documents",))
    (table,) = await desk.gateway.schemas.tables(grant)
    assert table.name == "documents"
    assert table.foreign_keys == ()
    with pytest.raises(SqlUndefined):
        await desk.ask(engine, "SELECT * FROM users", tables=("documents",))
    assert (await desk.ask(engine, "SELECT count(*) FROM documents", tables=("documents",))).rows == [(60,)]


@_ENGINES
async def test_hidden_table_looks_like_an_unknown_one(engine: str, desk: Desk) -> None:
    grant = DatabaseGrant(database=engine)
    texts = []
    for name in ("api_keys", "api_nope"):
        with pytest.raises(TableNotFound) as missing:
            await desk.gateway.schemas.table(grant, name)
        with pytest.raises(SqlUndefined) as unknown:
            await desk.ask(engine, f"SELECT * FROM {name}")
        texts.append([str(error.value).replace(name, "?") for error in (missing, unknown)])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("sql", ["SELECT NULL::{}", "SELECT CAST(NULL AS {})", "SELECT {} '(1)'"])
async def test_type_of_a_hidden_table_looks_like_an_unknown_one(sql: str, desk: Desk) -> None:
    texts = []
    for name in ("api_keys", "api_nope"):
        with pytest.raises(QueryTextError) as caught:
            await desk.ask("postgres", sql.format(name))
        texts.append(str(caught.value).replace(name, "?"))
    assert texts[0] == texts[1]


@_ENGINES
async def test_unknown_name_gets_the_nearest_one(engine: str, desk: Desk) -> None:
    with pytest.raises(SqlUndefined, match="did you mean users"):
        await desk.ask(engine, "SELECT * FROM userz")


async def test_new_table_is_found_when_it_is_asked_for(shop: PostgresServer, desk: Desk) -> None:
    owner = await asyncpg.connect(shop.url("postgres"))
    await owner.execute("CREATE TABLE arrived (a int); GRANT SELECT ON arrived TO sandboxd_reader")
    assert (await desk.ask("postgres", "SELECT count(*) FROM arrived")).rows == [(0,)]
    await owner.execute("DROP TABLE arrived")
    await owner.close()
    with pytest.raises(SqlUndefined):
        await desk.ask("postgres", "SELECT count(*) FROM arrived")


async def test_two_hundred_tables_are_read_fast_and_kept(shop: PostgresServer) -> None:
    owner = await asyncpg.connect(shop.url("postgres"))
    await owner.execute("CREATE SCHEMA wide; GRANT USAGE ON SCHEMA wide TO sandboxd_reader")
    columns = ", ".join(f"c{number} text" for number in range(8))
    await owner.execute(
        "".join(f"CREATE TABLE wide.t{number} (id int PRIMARY KEY, {columns});" for number in range(200))
    )
    await owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA wide TO sandboxd_reader")
    settings = DatabaseSettings(name="x", url=shop.url("sandboxd_reader"), schemas=("public", "wide"))
    async with DatabaseGateway((settings,), audit=MemoryAudit(), max_workers=1) as gateway:
        grant = DatabaseGrant(database="x")
        await gateway.check("x")
        start = time.perf_counter()
        tables = await gateway.schemas.tables(grant)
        cold = time.perf_counter() - start
        start = time.perf_counter()
        await gateway.schemas.tables(grant)
        kept = time.perf_counter() - start
        names = {table.name for table in tables}
        assert {"users", "wide.t7"} <= names
        answer = await Desk(gateway, MemoryAudit()).ask("x", "SELECT count(*) FROM wide.t7")
        assert answer.rows == [(0,)]
    await owner.execute("DROP SCHEMA wide CASCADE")
    await owner.close()
    assert cold < 0.5  # 50 ms on a quiet machine: benchmarks/database.py holds it to that
    assert kept < 0.005
