"""The audit of SQL: append-only for everybody, paged by owner."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select

from sandboxd.store import operations, rows
from sandboxd.store.paging import PageTokens, Position
from sandboxd.store.records import QueryRecord, QueryVerdict
from sandboxd.store.tables import queries
from sandboxd.store.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryFilter:
    """Which audit entries; None leaves a field open. An `owner` of None is for admins only."""

    owner: str | None
    user_id: str | None = None
    sandbox_id: str | None = None
    execution_id: str | None = None
    database: str | None = None
    id: str | None = None
    verdicts: tuple[QueryVerdict, ...] = ()
    time_from: datetime | None = None
    time_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        table = queries.c
        found: list[ColumnElement[bool]] = []
        for column, value in (
            (table.owner, self.owner),
            (table.user_id, self.user_id),
            (table.sandbox_id, self.sandbox_id),
            (table.execution_id, self.execution_id),
            (table.database, self.database),
            (table.id, self.id),
        ):
            if value is not None:
                found.append(column == value)
        if self.verdicts:
            found.append(table.verdict.in_([verdict.value for verdict in self.verdicts]))
        if self.time_from is not None:
            found.append(table.time >= self.time_from)
        if self.time_before is not None:
            found.append(table.time < self.time_before)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPage:
    """Newest first; an empty token means that there is no more."""

    queries: list[QueryRecord]
    next_page_token: str


class QueryAudit:
    """Every attempt leaves an entry. For a statement that writes, a STARTED one before COMMIT."""

    def __init__(self, *, writer: Writer, tokens: PageTokens, sync_each: bool) -> None:
        self._writer = writer
        self._tokens = tokens
        self._sync_each = sync_each

    async def record(self, entry: QueryRecord) -> None:
        """Record an attempt, or complete the entry with the same id; durable against a kill when it returns.

        Raises StoreFull or StoreUnavailable; a write must be refused then.
        """
        self._writer.append(operations.RecordQuery(entry))
        if self._sync_each:
            await self._writer.sync()

    async def list(self, filter: QueryFilter, *, page_size: int, page_token: str = "") -> QueryPage:  # noqa: A002
        """A page of at most `page_size`. Raises InvalidPageToken."""
        scope = ("queries", filter)
        after = self._tokens.read(page_token, scope=scope)
        table = queries.c
        conditions = filter.conditions()
        if after is not None:
            conditions.append(
                or_(table.time < after.time, and_(table.time == after.time, table.id < after.id))
            )
        query = (
            select(queries)
            .where(*conditions)
            .order_by(table.time.desc(), table.id.desc())
            .limit(page_size + 1)
        )
        async with self._writer.reading() as connection:
            found = [rows.query_record(row) for row in await connection.execute(query)]
        more = len(found) > page_size
        page = found[:page_size]
        token = self._tokens.make(Position.of(page[-1].time, page[-1].id), scope=scope) if more else ""
        return QueryPage(queries=page, next_page_token=token)
