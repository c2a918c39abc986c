"""The tables of the store. A change here needs a migration; a test compares the two."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class UtcMicroseconds(TypeDecorator[datetime]):
    """A point in time as microseconds since 1970: the same order, size and meaning on both engines."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


class PlainText(TypeDecorator[str]):
    """Text that may hold anything a guest or a caller wrote: PostgreSQL has no NUL, so it is shown as one."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value.replace("\0", "\u2400") if value is not None and "\0" in value else value


class Utf8(TypeDecorator[str]):
    """Text kept exactly, NUL and all: as the bytes of its UTF-8."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.encode()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else bytes(value).decode()


metadata = MetaData()

meta = Table(
    "sandboxd_meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

journals = Table(
    "journals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("applied_sequence", BigInteger, nullable=False),
)

sandboxes = Table(
    "sandboxes",
    metadata,
    Column("id", PlainText, primary_key=True),
    Column("owner", PlainText, nullable=False),
    Column("user_id", PlainText, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("create_time", UtcMicroseconds, nullable=False),
    Column("expire_time", UtcMicroseconds),
    Column("end_time", UtcMicroseconds),
    Column("end_reason", PlainText),
    Column("request_id", PlainText),
    Column("request_fingerprint", LargeBinary),
    Column("limits", PlainText, nullable=False),
    Column("policy", PlainText, nullable=False),
    Column("labels", PlainText, nullable=False),
)
Index("sandboxes_by_owner", sandboxes.c.owner, sandboxes.c.create_time, sandboxes.c.id)
Index("sandboxes_by_time", sandboxes.c.create_time, sandboxes.c.id)
Index(
    "sandboxes_by_request",
    sandboxes.c.owner,
    sandboxes.c.request_id,
    unique=True,
    sqlite_where=text("request_id IS NOT NULL"),
    postgresql_where=text("request_id IS NOT NULL"),
)
Index(
    "sandboxes_active",
    sandboxes.c.owner,
    sqlite_where=text("state = 'ACTIVE'"),
    postgresql_where=text("state = 'ACTIVE'"),
)

# Large columns stand last: a list that leaves them out then never touches their overflow pages.
executions = Table(
    "executions",
    metadata,
    Column("id", PlainText, primary_key=True),
    Column("sandbox_id", PlainText, nullable=False),
    Column("owner", PlainText, nullable=False),
    Column("user_id", PlainText, nullable=False),
    Column("kind", PlainText, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("create_time", UtcMicroseconds, nullable=False),
    Column("start_time", UtcMicroseconds),
    Column("end_time", UtcMicroseconds),
    Column("queue_us", BigInteger),
    Column("start_us", BigInteger),
    Column("run_us", BigInteger),
    Column("end_us", BigInteger),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("request_id", PlainText),
    Column("request_fingerprint", LargeBinary),
    Column("trace_parent", PlainText),
    Column("trace_reference", PlainText),
    Column("failure_kind", PlainText),
    Column("failure", PlainText),
    Column("limit_name", PlainText),
    Column("limit_receipt", PlainText),
    Column("usage", PlainText, nullable=False),
    Column("code", Utf8, nullable=False),
    Column("log", LargeBinary, nullable=False),
    Column("stdout", LargeBinary, nullable=False),
    Column("stderr", LargeBinary, nullable=False),
    Column("result", LargeBinary, nullable=False),
)
Index("executions_by_owner", executions.c.owner, executions.c.create_time, executions.c.id)
Index("executions_by_sandbox", executions.c.sandbox_id, executions.c.create_time, executions.c.id)
Index("executions_by_time", executions.c.create_time, executions.c.id)
Index(
    "executions_by_request",
    executions.c.owner,
    executions.c.request_id,
    unique=True,
    sqlite_where=text("request_id IS NOT NULL"),
    postgresql_where=text("request_id IS NOT NULL"),
)
Index(
    "executions_live",
    executions.c.state,
    sqlite_where=text("state IN ('QUEUED', 'RUNNING', 'PAUSED')"),
    postgresql_where=text("state IN ('QUEUED', 'RUNNING', 'PAUSED')"),
)

queries = Table(
    "queries",
    metadata,
    Column("id", PlainText, primary_key=True),
    Column("owner", PlainText, nullable=False),
    Column("user_id", PlainText, nullable=False),
    Column("time", UtcMicroseconds, nullable=False),
    Column("database", PlainText, nullable=False),
    Column("verdict", PlainText, nullable=False),
    Column("sandbox_id", PlainText),
    Column("execution_id", PlainText),
    Column("origin", PlainText, nullable=False),
    Column("line", Integer, nullable=False),
    Column("fingerprint", PlainText, nullable=False),
    Column("kind", PlainText, nullable=False),
    Column("tables", PlainText, nullable=False),
    Column("written_columns", PlainText, nullable=False),
    Column("functions", PlainText, nullable=False),
    Column("layer", PlainText, nullable=False),
    Column("reason", PlainText, nullable=False),
    Column("message", PlainText, nullable=False),
    Column("sqlstate", PlainText, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("affected", BigInteger, nullable=False),
    Column("truncated_by", PlainText, nullable=False),
    Column("queue_us", BigInteger, nullable=False),
    Column("check_us", BigInteger, nullable=False),
    Column("engine_us", BigInteger, nullable=False),
    Column("worker_pid", BigInteger, nullable=False),
    Column("sql_truncated", Boolean, nullable=False),
    Column("parameters", PlainText, nullable=False),
    Column("sql", Utf8, nullable=False),
    Column("bridged_sql", Utf8, nullable=False),
)
Index("queries_by_owner", queries.c.owner, queries.c.time, queries.c.id)
Index("queries_by_time", queries.c.time, queries.c.id)
Index("queries_by_execution", queries.c.execution_id)
