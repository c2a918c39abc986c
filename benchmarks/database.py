"""What the way to a database costs, and what its limits are worth.

    python -m benchmarks.database [--json] [--check] [--only guard,rows,frame,schema,limits]

Every figure stands beside the plain driver's, measured in turns in the same run. `--check` exits with 1
when a bar is missed. PostgreSQL is started from this machine's binaries; without them its rows are left out.
"""

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pandas as pd
import sqlglot
from sandboxd_client import Client, DatabaseGrant, Limits, QueryLimits, Sandbox
from sqlglot.errors import SqlglotError

from benchmarks.database_limits import Limit, limit_figures, memory_figures
from sandboxd.database.audit import MemoryAudit
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.grants import DatabaseGrant as Grant
from sandboxd.database.protocol import DatabaseSpec, RunStatement
from sandboxd.database.sample import build_sqlite, load_postgres
from sandboxd.database.settings import DatabaseSettings
from sandboxd.database.worker.planner import Catalog, Planner
from sandboxd.database.worker.refusal import Refusal
from sandboxd.database.worker.sqlite_engine import SqliteDatabase
from tests.database.benign import STATEMENTS
from tests.database.postgres_server import find_binaries, running_postgres
from tests.support.server_process import server_process

ROWS = 100_000
_FRAME = "SELECT id, a, b, c, d, e FROM wide ORDER BY id"
_HUNDRED = "SELECT id, user_id, action, timestamp FROM user_activities ORDER BY id LIMIT 100"
_FILL = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO wide "
    "SELECT i, i * 7, i * 0.5, 'name ' || (i % 1000), i % 2 = 0, 'city ' || (i % 50) FROM n"
)


@dataclass(frozen=True)
class Figure:
    """One line of the table; `bar` in the same unit, None where there is none."""

    name: str
    median: float
    unit: str
    plain: float | None = None
    """The plain driver in the same run; for the guard, sqlglot's parser alone."""
    bar: float | None = None

    @property
    def missed(self) -> bool:
        return self.bar is not None and self.median > self.bar


async def in_turns(
    rounds: int, first: Callable[[], Awaitable[float]], second: Callable[[], Awaitable[float]]
) -> tuple[float, float]:
    """Medians of two measurements taken by turns; each gives milliseconds."""
    pairs = [(await first(), await second()) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


# --- guard and binder --------------------------------------------------------------------------


def guard_figures(path: Path) -> list[Figure]:
    """New statements and known ones, in the worker's own code without its process."""
    database = SqliteDatabase(DatabaseSpec(name="x", engine="sqlite", url=f"sqlite:///{path}"))
    catalog = Catalog("sqlite", "main", database.schema().tables, database.functions)
    planner = Planner(guarded=True)
    cold: list[float] = []
    kept: list[float] = []
    parsed: list[float] = []
    for _ in range(3):
        for number, sql in enumerate(STATEMENTS["sqlite"]):
            order = RunStatement(
                request_id=number, database="x", sql=sql, max_rows=1, max_bytes=1, timeout_ms=1, chunk_bytes=0
            )
            start = time.perf_counter()
            with suppress(SqlglotError):
                sqlglot.parse(sql, dialect="sqlite")
                parsed.append((time.perf_counter() - start) * 1e6)
            for times in (cold, kept):
                start = time.perf_counter()
                try:
                    planner.plan(order, catalog)
                except Refusal:
                    continue
                times.append((time.perf_counter() - start) * 1e6)
        planner = Planner(guarded=True)
    database.close()
    return [
        Figure(
            "text, binder, bridge and guard, new statement",
            statistics.median(cold),
            "us",
            statistics.median(parsed),
            150,
        ),
        Figure("the same, known statement", statistics.median(kept), "us", bar=5),
    ]


# --- rows into a guest -------------------------------------------------------------------------


async def guest_milliseconds(sandbox: Sandbox, code: str) -> float:
    """Time that user code takes for itself, as it measures it."""
    result = await sandbox.execute(
        f"import time\nstart = time.perf_counter()\n{code}\n(time.perf_counter() - start) * 1e3"
    )
    return float(result.result)


async def rows_figures(client: Client, path: Path, url: str | None) -> list[Figure]:
    """100 rows by `db_query`."""
    figures = []
    for engine, bar in (("sqlite", 2.5), ("postgres", 4.0)):
        if engine == "postgres" and url is None:
            continue
        async with client.create_sandbox(
            databases=[_wide_grant(engine)], limits=Limits(cpu_percent=400)
        ) as sandbox:
            connection = await asyncpg.connect(url) if url and engine == "postgres" else None

            async def ours(sandbox: Sandbox = sandbox) -> float:
                return await guest_milliseconds(
                    sandbox, f"rows = await db_query({_HUNDRED!r})\nassert len(rows) == 100"
                )

            async def plain(connection: Any = connection) -> float:
                start = time.perf_counter()
                if connection is None:
                    with sqlite3.connect(path) as opened:
                        opened.row_factory = sqlite3.Row
                        rows = [dict(row) for row in opened.execute(_HUNDRED)]
                    opened.close()
                else:
                    rows = [dict(row) for row in await connection.fetch(_HUNDRED)]
                assert len(rows) == 100
                return (time.perf_counter() - start) * 1e3

            await ours()
            median, driver = await in_turns(40, ours, plain)
            figures.append(Figure(f"100 rows into the guest, {engine}", median, "ms", driver, bar))
            if connection is not None:
                await connection.close()
    return figures


async def frame_figures(client: Client, path: Path, url: str | None) -> list[Figure]:
    """100 000 rows of six columns to a DataFrame in the guest."""
    figures = []
    for engine in ("sqlite", "postgres"):
        if engine == "postgres" and url is None:
            continue
        limits = Limits(cpu_percent=400, memory_bytes=1 << 30)
        async with client.create_sandbox(databases=[_wide_grant(engine)], limits=limits) as sandbox:
            connection = await asyncpg.connect(url) if url and engine == "postgres" else None

            async def ours(sandbox: Sandbox = sandbox) -> float:
                code = f"frame = db_query({_FRAME!r}).df()\nassert frame.shape == ({ROWS}, 6)"
                return await guest_milliseconds(sandbox, code)

            async def plain(connection: Any = connection) -> float:
                start = time.perf_counter()
                if connection is None:
                    with sqlite3.connect(path) as opened:
                        frame = pd.read_sql_query(_FRAME, opened)
                    opened.close()
                else:
                    frame = pd.DataFrame(map(tuple, await connection.fetch(_FRAME)))
                assert frame.shape == (ROWS, 6)
                return (time.perf_counter() - start) * 1e3

            await ours()
            median, driver = await in_turns(7, ours, plain)
            name = f"100 k x 6 to a DataFrame in the guest, {engine}"
            figures.append(Figure(name, median, "ms", driver, 450))
            if connection is not None:
                await connection.close()
    return figures


def _wide_grant(database: str) -> DatabaseGrant:
    limits = QueryLimits(max_rows=ROWS, max_bytes=64 << 20, timeout=30)
    return DatabaseGrant(database=database, is_default=True, query_limits=limits)


# --- schema ------------------------------------------------------------------------------------


async def schema_figures(url: str) -> list[Figure]:
    """200 tables, read and remembered, beside one query of the catalogue's column list."""
    settings = DatabaseSettings(name="x", url=url, schemas=("public", "many"))
    async with DatabaseGateway((settings,), audit=MemoryAudit(), max_workers=1) as gateway:
        grant = Grant(database="x")
        await gateway.check("x")
        connection = await asyncpg.connect(url)

        async def cold() -> float:
            start = time.perf_counter()
            assert len(await gateway.schemas.tables(grant, refresh=True)) >= 200
            return (time.perf_counter() - start) * 1e3

        async def plain() -> float:
            start = time.perf_counter()
            await connection.fetch("SELECT * FROM information_schema.columns WHERE table_schema = 'many'")
            return (time.perf_counter() - start) * 1e3

        async def kept() -> float:
            start = time.perf_counter()
            await gateway.schemas.tables(grant)
            return (time.perf_counter() - start) * 1e3

        read, driver = await in_turns(7, cold, plain)
        remembered, _ = await in_turns(50, kept, kept)
        await connection.close()
    return [
        Figure("schema of 200 tables, read", read, "ms", driver, 50),
        Figure("schema of 200 tables, remembered", remembered, "ms", bar=1),
    ]


# --- the run -----------------------------------------------------------------------------------


def prepare_sqlite(path: Path) -> None:
    """The sample and a table of 100 000 rows."""
    build_sqlite(path)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE wide (id INTEGER PRIMARY KEY, a INTEGER, b REAL, c TEXT, d INTEGER, e TEXT)"
        )
        connection.execute(_FILL.format(rows=ROWS))
    connection.close()


async def prepare_postgres(url: str) -> None:
    """The same, and a schema of 200 tables."""
    connection = await asyncpg.connect(url)
    await load_postgres(connection)
    await connection.execute("CREATE TABLE wide (id int8, a int8, b float8, c text, d bool, e text)")
    await connection.execute(
        _FILL.format(rows=ROWS)
        .replace("WITH RECURSIVE", "INSERT INTO wide WITH RECURSIVE")
        .replace(" INSERT INTO wide SELECT", " SELECT")
    )
    columns = ", ".join(f"c{number} text" for number in range(8))
    await connection.execute(
        "CREATE SCHEMA many; CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA many TO reader"
    )
    for number in range(200):
        await connection.execute(f"CREATE TABLE many.t{number} (id int PRIMARY KEY, {columns})")
    await connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public, many TO reader; ANALYZE")
    await connection.close()


async def measure(only: set[str]) -> list[Figure]:
    """Every figure that was asked for."""
    figures: list[Figure] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sandboxd-bench-")))
        path = directory / "bench.db"
        prepare_sqlite(path)
        url = None
        if (binaries := find_binaries()) is not None and only - {"guard"}:
            server = stack.enter_context(running_postgres(binaries))
            await prepare_postgres(server.url("postgres"))
            url = server.url("reader")
        if "guard" in only:
            figures += guard_figures(path)
        if "schema" in only and url is not None:
            figures += await schema_figures(url)
        if "limits" in only:
            figures += map(_figure, await limit_figures(path, url))
        if only & {"rows", "frame", "limits"}:
            settings = {"databases__sqlite__url": f"sqlite:///{path}"}
            if url is not None:
                settings["databases__postgres__url"] = url
            process = stack.enter_context(server_process(directory, **settings))
            async with AsyncExitStack() as open_client:
                client = await open_client.enter_async_context(
                    Client.connect(process.tcp, token=process.token)
                )
                if "rows" in only:
                    figures += await rows_figures(client, path, url)
                if "frame" in only:
                    figures += await frame_figures(client, path, url)
                if "limits" in only:
                    found = await memory_figures(client, process.pid, _wide_grant("sqlite"))
                    figures += map(_figure, found)
    return figures


def _figure(limit: Limit) -> Figure:
    return Figure(limit.name, limit.reached, limit.unit, bar=limit.bar)


def main() -> int:
    """Prints a table or JSON; 1 when `--check` finds a bar missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", default="guard,rows,frame,schema,limits")
    options = parser.parse_args()
    figures = asyncio.run(measure(set(options.only.split(","))))
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
    else:
        for figure in figures:
            plain = f"plain {figure.plain:.2f}, x{figure.median / figure.plain:.1f}" if figure.plain else ""
            bar = "" if figure.bar is None else f"bar {figure.bar:g}" + (" MISSED" if figure.missed else "")
            print(f"{figure.name:55} {figure.median:9.2f} {figure.unit}  {bar:14} {plain}")
    return 1 if options.check and any(figure.missed for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
