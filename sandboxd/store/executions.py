"""The history of executions: begun once, finished once, found by (owner, id)."""

from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from sqlalchemy import ColumnElement, and_, or_, select

from sandboxd.errors import ExecutionNotFound
from sandboxd.store import operations, rows
from sandboxd.store.paging import PageTokens, Position
from sandboxd.store.records import (
    LIVE_STATES,
    Begun,
    Duplicate,
    ExecutionOutcome,
    ExecutionRecord,
    ExecutionState,
    ExecutionSummary,
)
from sandboxd.store.requests import RequestIds
from sandboxd.store.tables import executions
from sandboxd.store.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Which executions; None leaves a field open. An `owner` of None is for admins only."""

    owner: str | None
    user_id: str | None = None
    sandbox_id: str | None = None
    states: tuple[ExecutionState, ...] = ()
    kinds: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        table = executions.c
        found: list[ColumnElement[bool]] = []
        for column, value in (
            (table.owner, self.owner),
            (table.user_id, self.user_id),
            (table.sandbox_id, self.sandbox_id),
        ):
            if value is not None:
                found.append(column == value)
        if self.states:
            found.append(table.state.in_([state.value for state in self.states]))
        if self.kinds:
            found.append(table.kind.in_(self.kinds))
        if self.created_from is not None:
            found.append(table.create_time >= self.created_from)
        if self.created_before is not None:
            found.append(table.create_time < self.created_before)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPage:
    """Newest first; an empty token means that there is no more."""

    executions: list[ExecutionSummary]
    next_page_token: str


class ExecutionHistory:
    """What `begin` and `finish` have returned for is never lost, a SIGKILL of the server included."""

    def __init__(self, *, writer: Writer, tokens: PageTokens, sync_each: bool) -> None:
        self._writer = writer
        self._tokens = tokens
        self._sync_each = sync_each
        self._live: dict[str, tuple[str, str]] = {}
        self.stored: dict[tuple[str, str], int] = {}
        """Bytes by (owner, user_id); corrected after each pruning."""
        self.requests: RequestIds[ExecutionRecord] = RequestIds(
            pending=writer.pending_execution, stored=self.by_request
        )

    async def begin(self, record: ExecutionRecord) -> Begun | Duplicate[ExecutionRecord]:
        """Record that an execution was accepted (QUEUED) or starts (RUNNING), before it runs.

        With a request id seen before nothing is recorded and the first execution comes back.
        Raises RequestIdReused, StoreFull, StoreUnavailable; it must not be run then.
        """
        if record.request_id is None:
            self._begin(record)
        else:
            async with self.requests.deciding(
                record.owner, record.request_id, record.request_fingerprint
            ) as first:
                if first is None:
                    self._begin(record)
            if first is not None:
                return Duplicate(record=await self._up_to_date(first))
        await self._sync()
        return Begun()

    def started(self, execution_id: str, start_time: datetime) -> None:
        """A queued execution has its turn; without this it would be said after a crash that it never ran.

        Raises StoreFull or StoreUnavailable; it must not be run then.
        """
        self._writer.append(operations.StartExecution(execution_id, start_time))

    async def finish(self, execution_id: str, outcome: ExecutionOutcome) -> None:
        """Record the outcome, before it is told to the caller.

        Raises StoreFull or StoreUnavailable when it is not durable; it is still written when that passes.
        """
        self._count(execution_id, outcome.stored_bytes)
        self._live.pop(execution_id, None)
        self._writer.append(operations.FinishExecution(execution_id, outcome), begins_work=False)
        await self._sync()

    async def withdraw(self, execution_id: str) -> None:
        """Forget an execution of which nothing ran and whose caller was told so; frees its request id."""
        self._live.pop(execution_id, None)
        self._writer.append(operations.WithdrawExecution(execution_id), begins_work=False)
        await self._sync()

    async def get(self, *, owner: str | None, execution_id: str) -> ExecutionRecord:
        """The whole record. Raises ExecutionNotFound alike for a missing and for a foreign one."""
        conditions = [executions.c.id == execution_id, *ExecutionFilter(owner=owner).conditions()]
        record = await self._one(and_(*conditions))
        if record is None:
            raise ExecutionNotFound(id=execution_id)
        return record

    async def list(
        self,
        filter: ExecutionFilter,  # noqa: A002
        *,
        page_size: int,
        page_token: str = "",
        most_bytes: int | None = None,
    ) -> ExecutionPage:
        """A page of at most `page_size`, which ends before whole executions would exceed `most_bytes`; the
        first one is always in it. Raises InvalidPageToken."""
        scope = ("executions", filter)
        after = self._tokens.read(page_token, scope=scope)
        table = executions.c
        conditions = filter.conditions()
        if after is not None:
            conditions.append(
                or_(
                    table.create_time < after.time,
                    and_(table.create_time == after.time, table.id < after.id),
                )
            )
        query = (
            select(*rows.SUMMARY_COLUMNS)
            .where(*conditions)
            .order_by(table.create_time.desc(), table.id.desc())
            .limit(page_size + 1)
        )
        async with self._writer.reading() as connection:
            found = [rows.execution_summary(row) for row in await connection.execute(query)]
        page = _first_within(found[:page_size], most_bytes)
        more = len(found) > len(page)
        token = self._tokens.make(Position.of(page[-1].create_time, page[-1].id), scope=scope) if more else ""
        return ExecutionPage(executions=page, next_page_token=token)

    def _begin(self, record: ExecutionRecord) -> None:
        self._writer.append(operations.BeginExecution(record))
        self._live[record.id] = (record.owner, record.user_id)
        self._count(record.id, record.stored_bytes)

    async def _up_to_date(self, record: ExecutionRecord) -> ExecutionRecord:
        """The outcome may have come after the record was found or written."""
        if record.outcome is not None and record.state not in LIVE_STATES:
            return record
        return await self._one(executions.c.id == record.id) or record

    async def by_request(self, owner: str, request_id: str) -> ExecutionRecord | None:
        """The execution that a request id of this owner's stands for."""
        return await self._one(and_(executions.c.owner == owner, executions.c.request_id == request_id))

    async def _one(self, condition: ColumnElement[bool]) -> ExecutionRecord | None:
        async with self._writer.reading() as connection:
            row = (await connection.execute(select(executions).where(condition))).one_or_none()
        return rows.execution_record(row) if row is not None else None

    def _count(self, execution_id: str, size: int) -> None:
        user = self._live.get(execution_id)
        if user is not None:
            self.stored[user] = self.stored.get(user, 0) + size

    async def _sync(self) -> None:
        if self._sync_each:
            await self._writer.sync()


def _first_within(found: list[ExecutionSummary], most_bytes: int | None) -> list[ExecutionSummary]:
    if most_bytes is None:
        return found
    sizes = accumulate(summary.stored_bytes for summary in found)
    return [
        each
        for number, (each, size) in enumerate(zip(found, sizes, strict=True))
        if not number or size <= most_bytes
    ]
