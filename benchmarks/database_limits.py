"""What the limits of queries are worth; `benchmarks.database` runs it."""

import asyncio
import statistics
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psutil
from sandboxd_client import Client, DatabaseGrant, Limits

from sandboxd.database.audit import AuditFilter, MemoryAudit
from sandboxd.database.errors import QueryError
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.grants import DatabaseGrant as Grant
from sandboxd.database.grants import QueryLimits as Caps
from sandboxd.database.query import Asker, QueryRequest
from sandboxd.database.settings import DatabaseSettings


class Limit(NamedTuple):
    """How far something went, and how far it may."""

    name: str
    reached: float
    unit: str
    bar: float


_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
_RUNAWAYS = {
    "endless query, sqlite": ("sqlite", _ENDLESS, 300),
    "endless query, postgres": ("postgres", _ENDLESS, 300),
    "statement that hears no interrupt, sqlite": ("sqlite", "SELECT printf('%.*c', 900000000, 'x')", 300),
    "statement that is late to hear it, postgres": ("postgres", "SELECT format('%900000000s', 'x')", 700),
    "text that hangs the parser": ("sqlite", "SELECT " + "date(" * 28 + "'x'" + ")" * 28, 700),
}


async def limit_figures(path: Path, url: str | None) -> list[Limit]:
    """How long statements that do not end outlive a limit of 0.5 s, and what the loop notices."""
    databases = [DatabaseSettings(name="sqlite", url=f"sqlite:///{path}")]
    if url is not None:
        databases.append(DatabaseSettings(name="postgres", url=url))
    limits = Caps(max_rows=10, max_bytes=1 << 20, timeout=timedelta(seconds=0.5))
    figures: list[Limit] = []
    stalls: list[float] = []
    work: list[float] = []
    audit = MemoryAudit()
    async with DatabaseGateway(tuple(databases), audit=audit, max_workers=2) as gateway:

        async def over(database: str, sql: str) -> float:
            request = QueryRequest(
                asker=Asker(principal="bench", user_id="", sandbox_id="sbx"),
                grant=Grant(database=database, limits=limits),
                limits=limits,
                sql=sql,
            )
            start = time.perf_counter()
            with suppress(QueryError):
                async for _ in gateway.query(request):
                    pass
            took = time.perf_counter() - start
            await gateway.recorded()
            (record,), _ = await audit.list(AuditFilter(), page_size=1)
            return (took - record.queue_us / 1e6 - 0.5) * 1e3  # without the wait for a worker

        async def beat() -> None:
            while True:
                start, worked = time.perf_counter(), time.thread_time()
                await asyncio.sleep(0.001)
                stalls.append((time.perf_counter() - start) * 1e3 - 1)
                work.append((time.thread_time() - worked) * 1e3)

        for database in databases:
            await over(database.name, "SELECT 1")
        beating = asyncio.create_task(beat())
        for name, (database_name, sql, bar) in _RUNAWAYS.items():
            if database_name == "sqlite" or url is not None:
                late = [await over(database_name, sql) for _ in range(5)]
                figures.append(Limit(f"{name}: beyond its limit", statistics.median(late), "ms", bar))
        beating.cancel()
    return [
        *figures,
        Limit("longest stall of the event loop meanwhile", max(stalls), "ms", 50),
        Limit("of it the loop's own work, at most", max(work), "ms", 50),
    ]


async def memory_figures(client: Client, pid: int, grant: DatabaseGrant) -> list[Limit]:
    """What the server grows by while a result of 30 MB goes through it to a guest."""
    process = psutil.Process(pid)
    limits = Limits(cpu_percent=400, memory_bytes=1 << 30)
    code = "rows = db_query(\"SELECT printf('%.*c', 10000, 'x') || id AS t FROM wide LIMIT 3000\")\nlen(rows)"
    growth: list[float] = []
    async with client.create_sandbox(databases=[grant], limits=limits) as sandbox:
        await sandbox.execute("db_query('SELECT 1')")
        for _ in range(5):
            before = most = process.memory_info().rss
            asking = asyncio.create_task(sandbox.execute(code))
            while not asking.done():
                await asyncio.wait([asking], timeout=0.002)
                most = max(most, process.memory_info().rss)
            assert (await asking).result == 3000
            growth.append((most - before) / 2**20)
    return [Limit("growth of the server by a result of 30 MB, at most", max(growth), "MB", 64)]
