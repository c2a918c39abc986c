"""The audit: one record for every attempt to query, refused ones too, and who keeps it."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from sandboxd.channel import values
from sandboxd.channel.values import Value

MAX_RECORDED_SQL = 32 * 1024
_SHOWN_VALUE = 120

Origin: TypeAlias = Literal["grpc", "sandbox"]


class Verdict(StrEnum):
    """What became of a query."""

    STARTED = "STARTED"
    """Written ahead of a commit; nothing is known of its end yet."""
    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedParameter:
    """A parameter as the audit keeps it."""

    name: str
    type_name: str
    size_bytes: int
    value: str = ""
    redacted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRecord:
    """What is known of one attempt."""

    id: str
    time: datetime
    principal: str
    user_id: str
    sandbox_id: str
    database: str
    sql: str
    """The statement as given, at most 32 KiB of it."""
    verdict: Verdict
    origin: Origin = "grpc"
    execution_id: str = ""
    line: int = 0
    """Line of user code that asked; 0 when unknown or over gRPC."""
    sql_truncated: bool = False
    bridged_sql: str = ""
    fingerprint: str = ""
    """Shared by statements that differ in literals only; of the whole text when nobody has read it."""
    kind: str = ""
    tables: tuple[str, ...] = ()
    written_columns: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    parameters: tuple[RecordedParameter, ...] = ()
    layer: str = ""
    reason: str = ""
    message: str = ""
    sqlstate: str = ""
    rows: int = 0
    size_bytes: int = 0
    affected: int = 0
    truncated_by: Literal["", "rows", "bytes"] = ""
    queue_us: int = 0
    check_us: int = 0
    engine_us: int = 0
    worker_pid: int = 0


class AuditFailed(Exception):
    """The record could not be written."""


class AuditSink(Protocol):
    """Keeps records. A record with a known id completes the earlier one."""

    async def record(self, entry: QueryRecord) -> None:
        """Durable against a kill of the server when it returns; raises `AuditFailed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which records; empty fields leave open what they name."""

    principal: str = ""
    user_id: str = ""
    sandbox_id: str = ""
    execution_id: str = ""
    database: str = ""
    query_id: str = ""
    verdicts: frozenset[Verdict] = frozenset()
    start_time: datetime | None = None
    end_time: datetime | None = None

    def matches(self, entry: QueryRecord) -> bool:
        """Whether a record is wanted."""
        wanted = (
            (self.principal, entry.principal),
            (self.user_id, entry.user_id),
            (self.sandbox_id, entry.sandbox_id),
            (self.execution_id, entry.execution_id),
            (self.database, entry.database),
            (self.query_id, entry.id),
        )
        if any(value and value != found for value, found in wanted):
            return False
        if self.verdicts and entry.verdict not in self.verdicts:
            return False
        if self.start_time is not None and entry.time < self.start_time:
            return False
        return self.end_time is None or entry.time < self.end_time


class AuditLog(AuditSink, Protocol):
    """A sink that can be asked."""

    async def list(
        self, wanted: AuditFilter, *, page_size: int, page_token: str
    ) -> tuple[Sequence[QueryRecord], str]:
        """Records, newest first, and the token of the next page, empty at the end; raises `ValueError`
        for a token of another list."""


class MemoryAudit:
    """The latest records, kept in memory: for tests and for servers without a store."""

    def __init__(self, *, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, QueryRecord] = OrderedDict()

    async def record(self, entry: QueryRecord) -> None:
        """Keeps a record, or completes the one with its id; the oldest go."""
        self._entries[entry.id] = entry
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    async def list(
        self, wanted: AuditFilter, *, page_size: int, page_token: str = ""
    ) -> tuple[Sequence[QueryRecord], str]:
        """See `AuditLog`."""
        found: list[QueryRecord] = []
        for entry in self._after(page_token):
            if wanted.matches(entry):
                found.append(entry)
            if len(found) > page_size:
                return found[:page_size], found[page_size - 1].id
        return found, ""

    def _after(self, token: str) -> Iterator[QueryRecord]:
        newest_first = reversed(self._entries.values())
        if token:
            if token not in self._entries:
                raise ValueError("page_token")
            for entry in newest_first:
                if entry.id == token:
                    break
        yield from newest_first


def text_digest(sql: str) -> str:
    """Sixteen hex digits of a whole text, for one that was never split into tokens."""
    return hashlib.sha256(sql.encode("utf-8", "replace")).hexdigest()[:16]


def recorded_parameters(
    named: Sequence[tuple[str, Value]], positional: Sequence[Value], *, keep_values: bool
) -> tuple[RecordedParameter, ...]:
    """Parameters as the audit keeps them: without values unless the settings say so."""
    given = [*named, *((str(number), value) for number, value in enumerate(positional, 1))]
    return tuple(_recorded(name, value, keep_values=keep_values) for name, value in given)


def _recorded(name: str, value: Value, *, keep_values: bool) -> RecordedParameter:
    kind = type(value).__name__.removesuffix("Value").lower()
    text, size = _text_and_size(value)
    shown = text[:_SHOWN_VALUE] if keep_values else ""
    return RecordedParameter(
        name=name[:200], type_name=kind, size_bytes=size, value=shown, redacted=not keep_values
    )


def _text_and_size(value: Value) -> tuple[str, int]:
    match value:
        case values.NullValue():
            return "NULL", 0
        case values.BoolValue() | values.IntValue() | values.FloatValue():
            return str(value.value), 8
        case values.BytesValue():
            return value.data[:_SHOWN_VALUE].hex(), len(value.data)
        case values.ListValue() | values.TupleValue() | values.SetValue():
            return f"{len(value.items)} items", sum(_text_and_size(item)[1] for item in value.items)
        case values.RecordValue():
            return f"{len(value.fields)} fields", sum(_text_and_size(item)[1] for _, item in value.fields)
        case _:
            text = str(getattr(value, "text", ""))
            return text, len(text)
