"""Writes a batch into the tables, so that doing it again changes nothing."""

from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Column, Table, bindparam, delete, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from sandboxd.store import rows
from sandboxd.store.batch import Batch
from sandboxd.store.records import LIVE_STATES, ExecutionOutcome, ExecutionState, SandboxState
from sandboxd.store.tables import executions, journals, queries, sandboxes

_SANDBOX_CHANGES = ("state", "expire_time", "end_time", "end_reason")
_EXECUTION_CHANGES = (*rows.OUTCOME_COLUMNS, "stored_bytes")
_IS_LIVE = or_(*(executions.c.state == state.value for state in LIVE_STATES))
"""Not `IN (...)`: its parameters would be expanded for each execution, which many at once do not allow."""


def _bound(column: Column[Any]) -> BindParameter[Any]:
    """A parameter of the column's own type: without it a time would be stored as the driver likes."""
    return bindparam(f"b_{column.name}", type_=column.type)


_RENEW = (
    update(sandboxes)
    .where(sandboxes.c.id == bindparam("b_id"), sandboxes.c.state == SandboxState.ACTIVE.value)
    .values(expire_time=_bound(sandboxes.c.expire_time))
)
_END = (
    update(sandboxes)
    .where(sandboxes.c.id == bindparam("b_id"), sandboxes.c.state == SandboxState.ACTIVE.value)
    .values(
        {
            column: _bound(column)
            for column in (sandboxes.c.state, sandboxes.c.end_time, sandboxes.c.end_reason)
        }
    )
)
_START = (
    update(executions)
    .where(executions.c.id == bindparam("b_id"), executions.c.state == ExecutionState.QUEUED.value)
    .values(state=ExecutionState.RUNNING.value, start_time=_bound(executions.c.start_time))
)
_FINISH = (
    update(executions)
    .where(executions.c.id == bindparam("b_id"), _IS_LIVE)
    .values(
        {executions.c[name]: _bound(executions.c[name]) for name in rows.OUTCOME_COLUMNS}
        | {executions.c.stored_bytes: executions.c.stored_bytes + bindparam("b_stored_bytes")}
    )
)


async def apply(connection: AsyncConnection, batch: Batch, journal_id: str) -> None:
    """Write everything of `batch` and how far the journal is applied, in the caller's transaction."""
    await _write_sandboxes(connection, batch)
    await _write_executions(connection, batch)
    if batch.queries:
        values = [rows.query_values(record) for record in batch.queries.values()]
        await connection.execute(_upsert(connection.dialect.name, queries, rows.QUERY_COLUMNS), values)
    if batch.last_sequence:
        values = [{"id": journal_id, "applied_sequence": batch.last_sequence}]
        await connection.execute(_upsert(connection.dialect.name, journals, ("applied_sequence",)), values)


async def _write_sandboxes(connection: AsyncConnection, batch: Batch) -> None:
    if batch.sandboxes:
        values = [rows.sandbox_values(record) for record in batch.sandboxes.values()]
        await connection.execute(_upsert(connection.dialect.name, sandboxes, _SANDBOX_CHANGES), values)
    if batch.renewals:
        renewals = batch.renewals.values()
        await connection.execute(_RENEW, [{"b_id": r.id, "b_expire_time": r.expire_time} for r in renewals])
    if batch.sandbox_ends:
        ends = [
            {"b_id": e.id, "b_state": e.state.value, "b_end_time": e.end_time, "b_end_reason": e.end_reason}
            for e in batch.sandbox_ends.values()
        ]
        await connection.execute(_END, ends)


async def _write_executions(connection: AsyncConnection, batch: Batch) -> None:
    if batch.withdrawn:
        await connection.execute(delete(executions).where(executions.c.id.in_(list(batch.withdrawn))))
    if batch.executions:
        values = [rows.execution_values(record) for record in batch.executions.values()]
        await connection.execute(_upsert(connection.dialect.name, executions, _EXECUTION_CHANGES), values)
    if batch.starts:
        starts = [{"b_id": s.id, "b_start_time": s.start_time} for s in batch.starts.values()]
        await connection.execute(_START, starts)
    if batch.outcomes:
        await connection.execute(
            _FINISH, [_outcome_parameters(o.id, o.outcome) for o in batch.outcomes.values()]
        )


def _outcome_parameters(execution_id: str, outcome: ExecutionOutcome) -> dict[str, Any]:
    values = {f"b_{name}": value for name, value in rows.outcome_values(outcome).items()}
    return values | {"b_id": execution_id, "b_stored_bytes": outcome.stored_bytes}


@cache
def _upsert(dialect: str, table: Table, changes: tuple[str, ...]) -> Any:
    """An insert that, where the record is there already, brings `changes` up to date."""
    if dialect == "postgresql":
        insert = postgresql.insert(table)
        return insert.on_conflict_do_update(
            index_elements=["id"], set_={name: insert.excluded[name] for name in changes}
        )
    insert_sqlite = sqlite.insert(table)
    return insert_sqlite.on_conflict_do_update(
        index_elements=["id"], set_={name: insert_sqlite.excluded[name] for name in changes}
    )
