"""The history of sandboxes, those that are gone included; found by (owner, id)."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select

from sandboxd.errors import SandboxNotFound
from sandboxd.store import operations, rows
from sandboxd.store.paging import PageTokens, Position
from sandboxd.store.records import Begun, Duplicate, SandboxRecord, SandboxState
from sandboxd.store.requests import RequestIds
from sandboxd.store.tables import sandboxes
from sandboxd.store.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFilter:
    """Which sandboxes; None leaves a field open. An `owner` of None is for admins only."""

    owner: str | None
    user_id: str | None = None
    states: tuple[SandboxState, ...] = ()
    created_from: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        table = sandboxes.c
        found: list[ColumnElement[bool]] = []
        if self.owner is not None:
            found.append(table.owner == self.owner)
        if self.user_id is not None:
            found.append(table.user_id == self.user_id)
        if self.states:
            found.append(table.state.in_([state.value for state in self.states]))
        if self.created_from is not None:
            found.append(table.create_time >= self.created_from)
        if self.created_before is not None:
            found.append(table.create_time < self.created_before)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPage:
    """Newest first; an empty token means that there is no more."""

    sandboxes: list[SandboxRecord]
    next_page_token: str


class SandboxHistory:
    """What `create` and `end` have returned for is never lost, a SIGKILL of the server included."""

    def __init__(self, *, writer: Writer, tokens: PageTokens, sync_each: bool) -> None:
        self._writer = writer
        self._tokens = tokens
        self._sync_each = sync_each
        self.requests: RequestIds[SandboxRecord] = RequestIds(
            pending=writer.pending_sandbox, stored=self._by_request
        )

    async def create(self, record: SandboxRecord) -> Begun | Duplicate[SandboxRecord]:
        """Record a sandbox before the caller is told of it; a request id seen before gives the first one.

        Raises RequestIdReused, StoreFull, StoreUnavailable.
        """
        if record.request_id is None:
            self._writer.append(operations.CreateSandbox(record))
        else:
            async with self.requests.deciding(
                record.owner, record.request_id, record.request_fingerprint
            ) as first:
                if first is None:
                    self._writer.append(operations.CreateSandbox(record))
            if first is not None:
                return Duplicate(record=await self._one(sandboxes.c.id == first.id) or first)
        await self._sync()
        return Begun()

    def renew(self, sandbox_id: str, expire_time: datetime) -> None:
        """Use moves the expiry on; worth recording now and then, not at every use."""
        self._writer.append(operations.RenewSandbox(sandbox_id, expire_time), begins_work=False)

    async def end(
        self, sandbox_id: str, *, state: SandboxState, end_time: datetime, reason: str | None = None
    ) -> None:
        """Record that it was deleted, expired or lost; the first end counts."""
        self._writer.append(operations.EndSandbox(sandbox_id, state, end_time, reason), begins_work=False)
        await self._sync()

    async def get(self, *, owner: str | None, sandbox_id: str) -> SandboxRecord:
        """Raises SandboxNotFound alike for a missing and for a foreign one."""
        conditions = [sandboxes.c.id == sandbox_id, *SandboxFilter(owner=owner).conditions()]
        record = await self._one(and_(*conditions))
        if record is None:
            raise SandboxNotFound(id=sandbox_id)
        return record

    async def list(self, filter: SandboxFilter, *, page_size: int, page_token: str = "") -> SandboxPage:  # noqa: A002
        """A page of at most `page_size`. Raises InvalidPageToken."""
        scope = ("sandboxes", filter)
        after = self._tokens.read(page_token, scope=scope)
        table = sandboxes.c
        conditions = filter.conditions()
        if after is not None:
            conditions.append(
                or_(
                    table.create_time < after.time,
                    and_(table.create_time == after.time, table.id < after.id),
                )
            )
        query = (
            select(sandboxes)
            .where(*conditions)
            .order_by(table.create_time.desc(), table.id.desc())
            .limit(page_size + 1)
        )
        async with self._writer.reading() as connection:
            found = [rows.sandbox_record(row) for row in await connection.execute(query)]
        more = len(found) > page_size
        page = found[:page_size]
        token = self._tokens.make(Position.of(page[-1].create_time, page[-1].id), scope=scope) if more else ""
        return SandboxPage(sandboxes=page, next_page_token=token)

    async def _by_request(self, owner: str, request_id: str) -> SandboxRecord | None:
        return await self._one(and_(sandboxes.c.owner == owner, sandboxes.c.request_id == request_id))

    async def _one(self, condition: ColumnElement[bool]) -> SandboxRecord | None:
        async with self._writer.reading() as connection:
            row = (await connection.execute(select(sandboxes).where(condition))).one_or_none()
        return rows.sandbox_record(row) if row is not None else None

    async def _sync(self) -> None:
        if self._sync_each:
            await self._writer.sync()
