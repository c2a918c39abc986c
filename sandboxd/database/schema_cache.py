"""What each database holds, asked of a worker once a minute at most, and what one sandbox may see of it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from sandboxd.database import protocol
from sandboxd.database.errors import DatabaseUnavailable, TableNotFound
from sandboxd.database.grants import DatabaseGrant
from sandboxd.database.query_run import error_of
from sandboxd.database.schema import Table
from sandboxd.database.worker_pool import WorkerPool
from sandboxd.database.worker_process import WorkerDied

_KEPT_SECONDS = 60.0
_READ_SECONDS = 15.0


class SchemaCache:
    """Tables by database. Several askers at once cause one reading."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._kept: dict[str, tuple[float, dict[str, Table]]] = {}
        self._reading: dict[str, asyncio.Task[dict[str, Table]]] = {}

    async def tables(self, grant: DatabaseGrant, *, refresh: bool = False) -> list[Table]:
        """The tables the grant shows, by name; raises a `QueryError`."""
        return visible(await self._all(grant.database, refresh=refresh), grant)

    async def table(self, grant: DatabaseGrant, name: str) -> Table:
        """One table; raises `TableNotFound`, also for a hidden one."""
        tables = {table.name: table for table in await self.tables(grant)}
        folded = {known.lower(): known for known in tables}
        known = name if name in tables else folded.get(name.lower(), "")
        if not known:
            near = get_close_matches(name, tables, n=3, cutoff=0.6)
            raise TableNotFound(id=name, nearest=tuple(near))
        return tables[known]

    async def check(self, name: str) -> tuple[str, list[str]]:
        """The engine's version and warnings about its role."""
        reply = await self._ask(protocol.CheckDatabase(request_id=1, database=name))
        assert isinstance(reply, protocol.DatabaseChecked)
        return reply.server_version, reply.warnings

    async def _all(self, database: str, *, refresh: bool) -> dict[str, Table]:
        read_at, tables = self._kept.get(database, (0.0, {}))
        if not refresh and read_at and time.monotonic() - read_at < _KEPT_SECONDS:
            return tables
        task = self._reading.get(database)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(database))
            self._reading[database] = task
            task.add_done_callback(lambda _: self._reading.pop(database, None))
        return await asyncio.shield(task)

    async def _read(self, database: str) -> dict[str, Table]:
        reply = await self._ask(protocol.ReadSchema(request_id=1, database=database))
        assert isinstance(reply, protocol.SchemaRead)
        tables = {table.name: table for table in sorted(reply.tables, key=lambda table: table.name)}
        self._kept[database] = (time.monotonic(), tables)
        return tables

    async def _ask(self, question: protocol.ReadSchema | protocol.CheckDatabase) -> protocol.WorkerReply:
        async with self._pool.lease() as worker:
            disarm = worker.kill_after(_READ_SECONDS)
            try:
                await worker.send(question)
                reply = await worker.receive()
            except WorkerDied:
                problem = "the database did not answer in time"
                raise DatabaseUnavailable(problem=problem, layer="gateway") from None
            except BaseException:
                worker.kill()  # its answer would be taken for that of the next question
                raise
            finally:
                disarm()
        if isinstance(reply, protocol.StatementRefused):
            raise error_of(reply)
        return reply


def visible(tables: Mapping[str, Table], grant: DatabaseGrant) -> list[Table]:
    """What a grant shows: its tables, and keys between these alone."""
    if not grant.tables:
        return list(tables.values())
    shown = {name.lower() for name in grant.tables}
    kept = [table for table in tables.values() if table.name.lower() in shown]
    return [_among(table, {other.name for other in kept}) for table in kept]


def _among(table: Table, names: Sequence[str] | set[str]) -> Table:
    return replace(
        table,
        foreign_keys=tuple(key for key in table.foreign_keys if key.target_table in names),
        referenced_by=tuple(reference for reference in table.referenced_by if reference.table in names),
    )
