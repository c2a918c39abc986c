"""Figures over the history, counted by the database."""

from sqlalchemy import ColumnElement, Float, and_, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.queries import QueryFilter
from sandboxd.store.records import ExecutionState, PhaseFigures, SandboxState, Statistics
from sandboxd.store.sandboxes import SandboxFilter
from sandboxd.store.tables import executions, queries, sandboxes
from sandboxd.store.writer import Writer

_PHASES = {"queue": "queue_us", "start": "start_us", "run": "run_us", "end": "end_us"}
_MEASURED_EXECUTIONS = 10_000
_MICROSECONDS_A_SECOND = 1_000_000


async def read_statistics(writer: Writer, span: ExecutionFilter) -> Statistics:
    """Figures of the executions that `span` lets through, and of the sandboxes and queries beside them."""
    where = span.conditions()
    async with writer.reading() as connection:
        states, limits, seconds, stored = await _executions(connection, where)
        active, created = await _sandboxes(connection, span)
        attempted = await _queries(connection, span)
        phases = {
            phase: figures
            for phase, column in _PHASES.items()
            if (figures := await _phase(connection, where, column)) is not None
        }
    return Statistics(
        active_sandboxes=active,
        created_sandboxes=created,
        executions_by_state=states,
        executions_by_limit=limits,
        average_execution_seconds=seconds,
        phases=phases,
        queries=attempted,
        stored_bytes=stored,
    )


async def _executions(
    connection: AsyncConnection, where: list[ColumnElement[bool]]
) -> tuple[dict[ExecutionState, int], dict[str, int], float | None, int]:
    table = executions.c
    grouped = (
        select(
            table.state,
            table.limit_name,
            func.count(),
            func.count(table.run_us),
            func.coalesce(func.sum(table.run_us), 0),
            func.sum(table.stored_bytes),
        )
        .where(*where)
        .group_by(table.state, table.limit_name)
    )
    states: dict[ExecutionState, int] = {}
    limits: dict[str, int] = {}
    measured = run_us = stored = 0
    for state, limit, count, ran, sum_us, size in await connection.execute(grouped):
        states[ExecutionState(state)] = states.get(ExecutionState(state), 0) + count
        if limit is not None:
            limits[limit] = limits.get(limit, 0) + count
        measured, run_us, stored = measured + ran, run_us + int(sum_us), stored + int(size)
    seconds = run_us / measured / _MICROSECONDS_A_SECOND if measured else None
    return states, limits, seconds, stored


async def _sandboxes(connection: AsyncConnection, span: ExecutionFilter) -> tuple[int, int]:
    whose = SandboxFilter(owner=span.owner, user_id=span.user_id).conditions()
    if span.sandbox_id is not None:
        whose.append(sandboxes.c.id == span.sandbox_id)
    times: list[ColumnElement[bool]] = []
    if span.created_from is not None:
        times.append(sandboxes.c.create_time >= span.created_from)
    if span.created_before is not None:
        times.append(sandboxes.c.create_time < span.created_before)
    active = select(func.count()).where(sandboxes.c.state == SandboxState.ACTIVE.value, *whose)
    created = select(func.count()).select_from(sandboxes).where(*whose, *times)
    return (await connection.execute(active)).scalar_one(), (await connection.execute(created)).scalar_one()


async def _queries(connection: AsyncConnection, span: ExecutionFilter) -> int:
    whose = QueryFilter(
        owner=span.owner,
        user_id=span.user_id,
        sandbox_id=span.sandbox_id,
        time_from=span.created_from,
        time_before=span.created_before,
    ).conditions()
    return (await connection.execute(select(func.count()).select_from(queries).where(*whose))).scalar_one()


async def _phase(
    connection: AsyncConnection, where: list[ColumnElement[bool]], column: str
) -> PhaseFigures | None:
    """Percentiles by rank, computed where the rows are: only one row travels."""
    value = executions.c[column]
    latest = (
        select(value.label("v"))
        .where(and_(*where, value.is_not(None)))
        .order_by(executions.c.create_time.desc())
        .limit(_MEASURED_EXECUTIONS)
        .subquery()
    )
    ranked = select(
        latest.c.v,
        func.row_number().over(order_by=latest.c.v).label("rank"),
        func.count().over().label("n"),
    ).subquery()

    def at(percent: int) -> ColumnElement[int]:
        return func.min(case((ranked.c.rank * 100 >= ranked.c.n * percent, ranked.c.v)))

    query = select(
        func.count(), func.avg(cast(ranked.c.v, Float)), at(50), at(90), at(99), func.max(ranked.c.v)
    )
    count, mean, p50, p90, p99, maximum = (await connection.execute(query.select_from(ranked))).one()
    if not count:
        return None
    return PhaseFigures(
        count=count, mean_us=float(mean), p50_us=p50, p90_us=p90, p99_us=p99, maximum_us=maximum
    )
