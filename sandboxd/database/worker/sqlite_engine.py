"""Runs judged statements on a SQLite file: read-only connection, authorizer, limits, a progress handler."""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sandboxd.channel.query import ResultColumn
from sandboxd.database.protocol import DatabaseSpec
from sandboxd.database.worker.allowed import FunctionPolicy, sqlite_functions
from sandboxd.database.worker.bridge_functions import REGISTERED, StatementClock, register
from sandboxd.database.worker.parameters import JsonText
from sandboxd.database.worker.refusal import Layer, Reason, Refusal
from sandboxd.database.worker.results import RowCollector, Sink
from sandboxd.database.worker.sqlite_rights import Authorizer, tables_behind
from sandboxd.database.worker.sqlite_schema import SqliteSchema, read_schema
from sandboxd.database.worker.write_guard import WriteUse

_MAX_CELL_BYTES = 8 * 1024 * 1024
_BATCH_ROWS = 500
"""Larger batches are slower: their cells leave the processor's cache before they are packed."""
_PROGRESS_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock: well under a millisecond."""
_LIMITS = (
    (sqlite3.SQLITE_LIMIT_LENGTH, _MAX_CELL_BYTES),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 256 * 1024),
    (sqlite3.SQLITE_LIMIT_COLUMN, 500),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (sqlite3.SQLITE_LIMIT_VDBE_OP, 250_000),
    (sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 100),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
    (sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 1000),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 20),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)


class Run(NamedTuple):
    """One statement, judged and bound."""

    text: str
    values: Sequence[Any]
    readable: frozenset[str]
    write: WriteUse | None
    max_affected_rows: int
    max_rows: int
    max_bytes: int
    chunk_bytes: int
    deadline: float
    """On the monotonic clock."""
    is_cancelled: Callable[[], bool]


class Ran(NamedTuple):
    """What a statement came to."""

    collector: RowCollector
    affected: int
    warnings: tuple[str, ...] = ()


class SqliteDatabase:
    """One file. Used by one thread; a statement that does not stop is ended with the process."""

    def __init__(self, spec: DatabaseSpec) -> None:
        self._path = spec.url.removeprefix("sqlite:///")
        self._shown = spec.tables
        self._clock = StatementClock()
        self._reader: sqlite3.Connection | None = None
        self._schema: SqliteSchema | None = None
        self._schema_version = -1
        self._behind_views: dict[str, frozenset[str]] = {}
        self.functions: FunctionPolicy = sqlite_functions(REGISTERED, spec.functions)

    def server_version(self) -> str:
        """The library's version; opens the file, so that a missing one is told early."""
        self._open_reader()
        return f"SQLite {sqlite3.sqlite_version}"

    def schema(self) -> SqliteSchema:
        """The file's schema, read again only when it has changed."""
        reader = self._open_reader()
        try:
            (version,) = reader.execute("PRAGMA schema_version").fetchone()
            if self._schema is None or version != self._schema_version:
                self._schema = read_schema(reader, self._shown)
                views = [table.name for table in self._schema.tables.values() if table.kind == "view"]
                self._behind_views = tables_behind(reader, views)
                self._schema_version = version
        except sqlite3.DatabaseError as error:
            raise _unavailable() from error
        return self._schema

    def close(self) -> None:
        """Closes the reading connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def run(self, run: Run, sink: Sink) -> Ran:
        """Runs one statement and sends its rows; raises `Refusal`."""
        schema = self.schema()
        connection = self._open_writer() if run.write else self._open_reader()
        authorizer = Authorizer(
            readable=run.readable,
            every_table=schema.every_table,
            behind_views=self._behind_views,
            functions=self.functions.allowed,
            triggers=schema.triggers if run.write else frozenset(),
            write=run.write,
        )
        self._clock.start()
        try:
            if run.write is None:
                return self._read(connection, authorizer, run, sink)
            return self._write(connection, authorizer, run, sink)
        except (sqlite3.Error, OverflowError, MemoryError) as error:
            raise _refusal(error, run, authorizer) from None
        finally:
            _disarm(connection)
            if run.write:
                connection.close()

    def _read(self, connection: sqlite3.Connection, authorizer: Authorizer, run: Run, sink: Sink) -> Ran:
        _arm(connection, authorizer, run)
        cursor = connection.execute(run.text, _named(run.values))
        try:
            return Ran(_collect(cursor, run, sink), 0)
        finally:
            cursor.close()

    def _write(self, connection: sqlite3.Connection, authorizer: Authorizer, run: Run, sink: Sink) -> Ran:
        connection.execute("BEGIN IMMEDIATE")
        before = connection.total_changes
        _arm(connection, authorizer, run)
        cursor = connection.execute(run.text, _named(run.values))
        collector = _collect(cursor, run, sink)
        cursor.close()
        _disarm(connection)
        affected = connection.total_changes - before
        if affected > run.max_affected_rows:
            problem = f"the statement would change {affected} rows, more than {run.max_affected_rows}"
            raise Refusal(Reason.LIMIT_AFFECTED, Layer.LIMIT, problem + "; nothing was changed")
        if not sink.confirm(affected):
            raise Refusal(
                Reason.NOT_RECORDED, Layer.GATEWAY, "the write could not be recorded; nothing was changed"
            )
        connection.execute("COMMIT")
        return Ran(collector, affected)

    def _open_reader(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = self._connect("ro")
        return self._reader

    def _open_writer(self) -> sqlite3.Connection:
        """A connection of its own for each write: closing it rolls back what was not committed."""
        writer = self._connect("rw")
        writer.execute("PRAGMA foreign_keys = ON")
        return writer

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"file:{_uri_quoted(self._path)}?mode={mode}"
        try:
            connection = sqlite3.connect(
                address, uri=True, isolation_level=None, cached_statements=0,
                detect_types=sqlite3.PARSE_DECLTYPES, timeout=1.0,
            )  # fmt: skip
            for table_function in ("json_each", "json_tree"):
                # They define themselves on first use, which the authorizer would have to allow.
                connection.execute(f"SELECT 1 FROM {table_function}('[]')").close()  # noqa: S608
            connection.execute("PRAGMA trusted_schema = OFF")
            # LIKE tells upper from lower case, as in PostgreSQL; ILIKE does not.
            connection.execute("PRAGMA case_sensitive_like = ON")
        except sqlite3.Error as error:
            raise _unavailable() from error
        for limit, value in _LIMITS:
            connection.setlimit(limit, value)
        register(connection, self._clock)
        return connection


def _named(values: Sequence[Any]) -> dict[str, Any]:
    return {f"p{number}": value for number, value in enumerate(values, 1)}


def _arm(connection: sqlite3.Connection, authorizer: Authorizer, run: Run) -> None:
    # A statement prepared under another authorizer would keep its rights: hence no cached statements.
    connection.set_authorizer(authorizer)
    connection.set_progress_handler(partial(_is_over, run), _PROGRESS_STEPS)


def _is_over(run: Run) -> bool:
    return time.monotonic() > run.deadline or run.is_cancelled()


def _disarm(connection: sqlite3.Connection) -> None:
    connection.set_progress_handler(None, 0)
    connection.set_authorizer(None)


def _collect(cursor: sqlite3.Cursor, run: Run, sink: Sink) -> RowCollector:
    collector = RowCollector(
        sink, max_rows=run.max_rows, max_bytes=run.max_bytes, chunk_bytes=run.chunk_bytes
    )
    if cursor.description is None:
        return collector
    collector.header([ResultColumn(name=name, db_type="") for name, *_ in cursor.description])
    batch = 100
    while rows := cursor.fetchmany(min(batch, collector.wanted)):
        if not collector.add(rows):
            break
        if _is_over(run):
            raise sqlite3.OperationalError("interrupted")
        average = max(1, collector.size_bytes // collector.rows)
        batch = max(1, min(_BATCH_ROWS, 1_000_000 // average))
    collector.finish()
    return collector


_BY_TEXT: tuple[tuple[str, Reason], ...] = (
    ("no such", Reason.UNDEFINED),
    ("ambiguous column", Reason.UNDEFINED),
    ("syntax error", Reason.SYNTAX),
    ("incomplete input", Reason.SYNTAX),
    ("unrecognized token", Reason.SYNTAX),
    ("parser stack", Reason.TOO_COMPLEX),
    ("too many", Reason.TOO_COMPLEX),
    ("too large", Reason.TOO_COMPLEX),
    ("too complex", Reason.TOO_COMPLEX),
)
_UNAVAILABLE_TEXTS = ("unable to open", "disk", "malformed", "not a database", "readonly")


def _refusal(error: BaseException, run: Run, authorizer: Authorizer) -> Refusal:
    text = str(error)
    if authorizer.denied and isinstance(error, sqlite3.DatabaseError):
        return Refusal(Reason.OBJECT_DENIED, Layer.ENGINE, f"{authorizer.denied} is not allowed")
    if "interrupted" in text:
        if run.is_cancelled():
            return Refusal(Reason.CANCELLED, Layer.LIMIT, "the statement was cancelled")
        return Refusal(Reason.LIMIT_TIME, Layer.LIMIT, "the statement ran longer than its time limit")
    if isinstance(error, MemoryError) or "too big" in text or "out of memory" in text:
        problem = f"a value is larger than {_MAX_CELL_BYTES} bytes"
        return Refusal(Reason.LIMIT_BYTES, Layer.LIMIT, problem)
    if isinstance(error, sqlite3.IntegrityError):
        return Refusal(Reason.CONSTRAINT, Layer.ENGINE, text)
    if "locked" in text or "busy" in text:
        return Refusal(Reason.CONFLICT, Layer.ENGINE, "the database is locked by another writer")
    if any(part in text for part in _UNAVAILABLE_TEXTS):
        return _unavailable()
    reason = next((reason for part, reason in _BY_TEXT if part in text), Reason.DATA)
    return Refusal(reason, Layer.ENGINE, text.replace(os.sep, " "))


def _unavailable() -> Refusal:
    return Refusal(Reason.UNAVAILABLE, Layer.ENGINE, "the database cannot be opened just now")


def _uri_quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


# --- declared types: what SQLite stores as a number or text comes out as what the column says ----


def _converter(convert: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """What a column declares, where the stored text is that; else the text."""

    def converter(stored: bytes) -> Any:
        try:
            return convert(stored.decode())
        except (ValueError, KeyError):
            return stored.decode("utf-8", "replace")

    return converter


_BOOLEANS = {"0": False, "1": True, "false": False, "true": True, "f": False, "t": True}


def _boolean(text: str) -> bool:
    return _BOOLEANS[text.lower()]


def _naive(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


for _declared, _convert in (
    ("BOOLEAN", _boolean),
    ("BOOL", _boolean),
    ("DATE", date.fromisoformat),
    ("DATETIME", _naive),
    ("TIMESTAMP", _naive),
    ("TIMESTAMPTZ", _aware),
    ("JSON", JsonText),
    ("JSONB", JsonText),
    ("UUID", UUID),
):
    sqlite3.register_converter(_declared, _converter(_convert))
