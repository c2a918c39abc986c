"""`db_query`, `db_tables` and `db_schema`: questions that the host answers, usable with and without await."""

import sys
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from sandboxd.channel.messages import Call, CallReply
from sandboxd.channel.query import (
    QueryQuestion,
    QueryReply,
    SchemaQuestion,
    SchemaReply,
    TablesQuestion,
    TablesReply,
    decode_payload,
    encode_payload,
)
from sandboxd.channel.values import DescriptionValue, Value
from sandboxd.guest.describe import to_value
from sandboxd.guest.rows import Rows
from sandboxd.guest.session import RunEnded, Session

_PARAMETER_BYTES = 4 * 1024 * 1024


class DatabaseError(Exception):
    """A database call did not succeed. `reason` is stable and machine-readable, `hint` says what to do."""

    __module__ = "builtins"  # as user code finds it

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.reason = reason
        self.hint = hint


class NoDatabase(DatabaseError):
    """No database is configured for this sandbox, or none of that name."""

    __module__ = "builtins"  # as user code finds it


class QueryRefused(DatabaseError):
    """The statement is not one that may run here."""

    __module__ = "builtins"  # as user code finds it


class QueryLimitReached(DatabaseError):
    """The statement would have taken more than its limits."""

    __module__ = "builtins"  # as user code finds it


class QueryFailed(DatabaseError):
    """The database could not run the statement."""

    __module__ = "builtins"  # as user code finds it


_REFUSED = ("_DENIED", "_NOT_GRANTED", "_MULTIPLE_STATEMENTS", "_TOO_COMPLEX", "_UNSUPPORTED")


class TableNames(list[str]):
    """A list of names that may be awaited."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # asyncio.gather() keeps awaitables in a dict

    def __await__(self) -> Generator[None, None, "TableNames"]:
        yield from ()
        return self


class TableSchema(dict[str, Any]):
    """A dict that may be awaited."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __await__(self) -> Generator[None, None, "TableSchema"]:
        yield from ()
        return self


_Answer = TypeVar("_Answer", QueryReply, TablesReply, SchemaReply)


class DatabaseFunctions:
    """The three functions of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def db_query(
        self,
        sql: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        database: str = "",
        max_rows: int | None = None,
    ) -> Rows:
        """Runs one statement. Parameters are named (`:name`, a dict) or positional (a list).

        Raises `DatabaseError`; its `reason` and `hint` say what to change.
        """
        named, positional = _parameters(params)
        question = QueryQuestion(
            sql=str(sql), named=named, positional=positional, database=database, max_rows=max_rows
        )
        return Rows(self._ask("query", encode_payload(question), QueryReply))

    def db_tables(self, *, database: str = "") -> TableNames:
        """Names of the tables and views that may be read."""
        reply = self._ask("tables", encode_payload(TablesQuestion(database=database)), TablesReply)
        return TableNames(entry.name for entry in reply.tables)

    def db_schema(self, table: str, *, database: str = "") -> TableSchema:
        """One table as a dict: table, kind, columns, primary_key, foreign_keys, indexes, estimated_rows,
        comment."""
        question = SchemaQuestion(table=str(table), database=database)
        reply = self._ask("schema", encode_payload(question), SchemaReply)
        return TableSchema(msgspec.to_builtins(reply))

    def _ask(self, method: str, payload: bytes, shape: type[_Answer]) -> _Answer:
        session = self._session
        if not session.configuration.databases:
            raise NoDatabase(
                "no database configured",
                reason="NO_DATABASE",
                hint="pass data in with the request, or ask the operator to configure a database",
            )
        run_id = session.active_run
        line = session.user_line(sys._getframe(2))
        call_id = session.next_call_id()
        try:
            if run_id is None:
                raise RunEnded
            session.send(Call(run_id=run_id, call_id=call_id, method=method, payload=payload, line=line))
            session.interrupts.raise_pending()
            reply = session.wait_for_reply(call_id)
        except RunEnded:
            raise QueryFailed("the execution has ended", reason="EXECUTION_ENDED") from None
        if reply.error_reason:
            raise _error(reply) from None
        return decode_payload(reply.payload, shape)


def _error(reply: CallReply) -> DatabaseError:
    reason = reply.error_reason
    kind: type[DatabaseError] = QueryFailed
    if reason.startswith("LIMIT_"):
        kind = QueryLimitReached
    elif reason in ("DATABASE_NOT_FOUND", "NO_DATABASE"):
        kind = NoDatabase
    elif reason.startswith("SQL_") and reason.endswith(_REFUSED):
        kind = QueryRefused
    return kind(reply.error_message, reason=reason, hint=reply.error_hint)


def _parameters(
    params: Mapping[str, Any] | Sequence[Any] | None,
) -> tuple[list[tuple[str, Value]], list[Value]]:
    if params is None:
        return [], []
    if isinstance(params, Mapping):
        pairs = [(str(name).removeprefix(":"), value) for name, value in params.items()]
        return [(name, _parameter(name, value)) for name, value in pairs], []
    if isinstance(params, str | bytes) or not isinstance(params, Sequence):
        raise TypeError(f"params is a dict or a list, not {type(params).__name__}")
    return [], [_parameter(str(number), value) for number, value in enumerate(params, 1)]


def _parameter(name: str, value: Any) -> Value:
    typed, truncated = to_value(value, size=_PARAMETER_BYTES)
    if isinstance(typed, DescriptionValue):
        raise TypeError(f"parameter {name} is a {type(value).__name__}, which no database type can hold")
    if truncated:
        raise ValueError(f"parameter {name} is larger than {_PARAMETER_BYTES} bytes")
    return typed
