"""How long and how much history is kept, and the deletion of a user's."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Table, delete, func, or_, select
from sqlalchemy.engine import URL

from sandboxd.limits import GIB
from sandboxd.store.records import LIVE_STATES, SandboxState
from sandboxd.store.tables import executions, queries, sandboxes
from sandboxd.store.writer import Writer

_CHUNK = 500
"""Records deleted in one transaction: the writer waits for no longer than that."""
_LIVE = [state.value for state in LIVE_STATES]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """What goes first is the oldest; what lives is never deleted. None is without bound."""

    max_age: timedelta | None = timedelta(days=30)
    """Of executions and ended sandboxes."""
    query_max_age: timedelta | None = timedelta(days=30)
    executions_per_user: int | None = 100_000
    bytes_per_user: int | None = 1 * GIB
    """Code, results, output and logs of one user."""
    interval: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many records went."""

    executions: int
    sandboxes: int
    queries: int


async def prune(writer: Writer, policy: RetentionPolicy, *, now: datetime | None = None) -> Deleted:
    """Delete what the policy no longer keeps. Raises StoreFull or StoreUnavailable; then go on later."""
    now = now or datetime.now(UTC)
    ended = executions.c.state.not_in(_LIVE)
    gone_executions = gone_sandboxes = gone_queries = 0
    if policy.max_age is not None:
        cutoff = now - policy.max_age
        gone_executions = await _delete(writer, executions, [executions.c.create_time < cutoff, ended])
        over = sandboxes.c.state != SandboxState.ACTIVE.value
        gone_sandboxes = await _delete(writer, sandboxes, [sandboxes.c.create_time < cutoff, over])
    if policy.query_max_age is not None:
        gone_queries = await _delete(writer, queries, [queries.c.time < now - policy.query_max_age])
    gone_executions += await _prune_users(writer, policy)
    return Deleted(gone_executions, gone_sandboxes, gone_queries)


async def delete_user(writer: Writer, *, owner: str | None, user_id: str | None) -> Deleted:
    """Delete all history of one user of `owner`, with no `user_id` of all of them, with no `owner` of that
    user with every owner; end what lives before."""
    if owner is None and user_id is None:
        raise ValueError("neither owner nor user")
    await writer.drain()
    counts = []
    for table in (executions, sandboxes, queries):
        whose = [
            column == wanted
            for column, wanted in ((table.c.owner, owner), (table.c.user_id, user_id))
            if wanted is not None
        ]
        counts.append(await _delete(writer, table, whose))
    await writer.forget_journal()
    return Deleted(*counts)


def overwrite_deleted(url: URL) -> None:
    """Leaves nothing of what was deleted in the free pages of a SQLite file, which nobody else may have
    open; PostgreSQL's own vacuum sees to its files."""
    if not url.drivername.startswith("sqlite") or not url.database:
        return
    with closing(sqlite3.connect(url.database)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def stored_bytes(writer: Writer) -> dict[tuple[str, str], int]:
    """What each (owner, user_id) has stored."""
    table = executions.c
    query = select(table.owner, table.user_id, func.sum(table.stored_bytes)).group_by(
        table.owner, table.user_id
    )
    async with writer.reading() as connection:
        return {(owner, user): int(size) for owner, user, size in await connection.execute(query)}


async def _prune_users(writer: Writer, policy: RetentionPolicy) -> int:
    table = executions.c
    bounds: list[ColumnElement[bool]] = []
    if policy.executions_per_user is not None:
        bounds.append(func.count() > policy.executions_per_user)
    if policy.bytes_per_user is not None:
        bounds.append(func.sum(table.stored_bytes) > policy.bytes_per_user)
    if not bounds:
        return 0
    query = select(table.owner, table.user_id).group_by(table.owner, table.user_id).having(or_(*bounds))
    async with writer.reading() as connection:
        users = (await connection.execute(query)).all()
    return sum([await _prune_user(writer, policy, owner, user_id) for owner, user_id in users])


async def _prune_user(writer: Writer, policy: RetentionPolicy, owner: str, user_id: str) -> int:
    table = executions.c
    newest_first = [table.create_time.desc(), table.id.desc()]
    ranked = (
        select(
            table.id,
            table.state,
            func.row_number().over(order_by=newest_first).label("rank"),
            func.sum(table.stored_bytes).over(order_by=newest_first).label("size"),
        )
        .where(table.owner == owner, table.user_id == user_id)
        .subquery()
    )
    beyond: list[ColumnElement[bool]] = []
    if policy.executions_per_user is not None:
        beyond.append(ranked.c.rank > policy.executions_per_user)
    if policy.bytes_per_user is not None:
        beyond.append(ranked.c.size > policy.bytes_per_user)
    query = select(ranked.c.id).where(or_(*beyond), ranked.c.state.not_in(_LIVE))
    async with writer.reading() as connection:
        ids = list((await connection.execute(query)).scalars())
    for chunk in _chunks(ids):
        await _delete_ids(writer, executions, chunk)
    return len(ids)


async def _delete(writer: Writer, table: Table, where: list[ColumnElement[bool]]) -> int:
    count = 0
    while True:
        async with writer.reading() as connection:
            ids = list((await connection.execute(select(table.c.id).where(*where).limit(_CHUNK))).scalars())
        if not ids:
            return count
        await _delete_ids(writer, table, ids)
        count += len(ids)


async def _delete_ids(writer: Writer, table: Table, ids: list[str]) -> None:
    async with writer.writing() as connection:
        await connection.execute(delete(table).where(table.c.id.in_(ids)))


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]
