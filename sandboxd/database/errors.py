"""Why a query did not run or has no result; leaves of the host's error tree.

SandboxdError
└── QueryError                     has `problem`, `hint`, `query_id` and what varies
    ├── QueryTextError             INVALID_ARGUMENT: correct the statement or its parameters
    │   ├── SqlSyntaxError, SqlMultipleStatements, SqlTooComplex
    │   ├── SqlParameterError      names parameter, expected type and an example
    │   ├── SqlUndefined           unknown, or hidden, which looks the same
    │   └── SqlDataError           a value the statement computed is not acceptable
    ├── QueryDenied                PERMISSION_DENIED: do not retry
    │   ├── SqlStatementDenied, SqlFunctionDenied, SqlObjectDenied
    │   └── SqlWriteNotGranted     shows the grant to ask for
    ├── QueryLimitReached          RESOURCE_EXHAUSTED
    │   ├── AffectedRowsLimit, TemporarySpaceLimit, ValueBytesLimit
    │   └── QueryQueueFull         too many queries of this sandbox; retry
    ├── QueryTimeLimit             DEADLINE_EXCEEDED
    ├── SqlConstraintViolated      FAILED_PRECONDITION
    ├── SqlConflict                ABORTED: retry
    ├── QueryCancelled             CANCELLED
    ├── DatabaseUnavailable        UNAVAILABLE: the engine or a worker is gone
    │   ├── QueryNotRecorded       the audit could not be written
    │   └── DatabaseRoleUnsafe     the operator must change the role
    └── DialectUnsupported         UNIMPLEMENTED: names the construct
NotFound
├── DatabaseNotFound               not granted looks like missing
└── TableNotFound
"""

from dataclasses import dataclass, field
from typing import ClassVar

from sandboxd.errors import NotFound, SandboxdError


@dataclass(kw_only=True, eq=False)
class QueryError(SandboxdError):
    """Root of the database's errors. Texts never name a host, a path, a role or a password."""

    reason: ClassVar[str] = "QUERY_FAILED"
    problem: str
    hint: str = ""
    """What to do instead; may be empty."""
    query_id: str = ""
    layer: str = ""
    """Which layer decided."""
    detail: dict[str, str] = field(default_factory=dict)
    """What varies: `line`, `column`, `parameter`, `expected`, `grant`, `construct`, `sqlstate` ..."""

    @property
    def metadata(self) -> dict[str, str]:
        given = {"query_id": self.query_id, "hint": self.hint, "layer": self.layer} | self.detail
        return {name: value for name, value in given.items() if value}

    def __str__(self) -> str:
        return f"{self.problem}; {self.hint}" if self.hint else self.problem


class QueryTextError(QueryError):
    """The statement or its parameters must be corrected."""


class SqlSyntaxError(QueryTextError):
    """Not a statement of the dialect."""

    reason: ClassVar[str] = "SQL_SYNTAX"


class SqlMultipleStatements(QueryTextError):
    """More than one statement."""

    reason: ClassVar[str] = "SQL_MULTIPLE_STATEMENTS"


class SqlTooComplex(QueryTextError):
    """Longer, deeper or wider than any statement needs to be."""

    reason: ClassVar[str] = "SQL_TOO_COMPLEX"


class SqlParameterError(QueryTextError):
    """A parameter is missing, superfluous or of the wrong type."""

    reason: ClassVar[str] = "SQL_PARAMETER"


class SqlUndefined(QueryTextError):
    """An unknown table, column or function."""

    reason: ClassVar[str] = "SQL_UNDEFINED"


class SqlDataError(QueryTextError):
    """The engine could not compute a value, such as a division by zero."""

    reason: ClassVar[str] = "SQL_DATA"


class QueryDenied(QueryError):
    """Policy refuses the statement."""


class SqlStatementDenied(QueryDenied):
    """A kind of statement or a construct."""

    reason: ClassVar[str] = "SQL_STATEMENT_DENIED"


class SqlFunctionDenied(QueryDenied):
    """A function."""

    reason: ClassVar[str] = "SQL_FUNCTION_DENIED"


class SqlObjectDenied(QueryDenied):
    """An object of the database."""

    reason: ClassVar[str] = "SQL_OBJECT_DENIED"


class SqlWriteNotGranted(QueryDenied):
    """A write without a grant; `detail["grant"]` is the grant to ask for, as JSON."""

    reason: ClassVar[str] = "SQL_WRITE_NOT_GRANTED"


class QueryLimitReached(QueryError):
    """A cap that is an error, not a cut result."""


class AffectedRowsLimit(QueryLimitReached):
    """The write would change more rows than granted; it was rolled back."""

    reason: ClassVar[str] = "LIMIT_AFFECTED_ROWS"


class TemporarySpaceLimit(QueryLimitReached):
    """The engine's limit on temporary space."""

    reason: ClassVar[str] = "LIMIT_TEMPORARY_SPACE"


class ValueBytesLimit(QueryLimitReached):
    """A single value or the whole result needs more memory than a query may use."""

    reason: ClassVar[str] = "LIMIT_VALUE_BYTES"


class QueryQueueFull(QueryLimitReached):
    """This sandbox runs and queues as many queries as it may."""

    reason: ClassVar[str] = "QUERY_QUEUE_FULL"

    @property
    def retry_after_seconds(self) -> float | None:
        return 0.5


class QueryTimeLimit(QueryError):
    """The statement's time ran out."""

    reason: ClassVar[str] = "LIMIT_QUERY_TIME"


class SqlConstraintViolated(QueryError):
    """A constraint of the database refuses a granted write."""

    reason: ClassVar[str] = "SQL_CONSTRAINT"


class SqlConflict(QueryError):
    """Another transaction was in the way."""

    reason: ClassVar[str] = "SQL_CONFLICT"

    @property
    def retry_after_seconds(self) -> float | None:
        return 0.1


class QueryCancelled(QueryError):
    """The caller went away or the execution ended."""

    reason: ClassVar[str] = "QUERY_CANCELLED"


class DatabaseUnavailable(QueryError):
    """The engine or the worker is gone; a read may be tried again."""

    reason: ClassVar[str] = "DATABASE_UNAVAILABLE"

    @property
    def retry_after_seconds(self) -> float | None:
        return 1.0


class QueryNotRecorded(DatabaseUnavailable):
    """The audit could not be written, so the statement was not run."""

    reason: ClassVar[str] = "QUERY_NOT_RECORDED"


class DatabaseRoleUnsafe(DatabaseUnavailable):
    """The URL names a role that no agent's SQL may run as."""

    reason: ClassVar[str] = "DATABASE_ROLE_UNSAFE"

    @property
    def retry_after_seconds(self) -> float | None:
        return None


class DialectUnsupported(QueryError):
    """A construct that the dialect bridge does not carry; `detail["construct"]` names it."""

    reason: ClassVar[str] = "SQL_DIALECT_UNSUPPORTED"


@dataclass(kw_only=True, eq=False)
class DatabaseNotFound(NotFound):
    """No such database is granted to this sandbox."""

    reason: ClassVar[str] = "DATABASE_NOT_FOUND"
    kind: ClassVar[str] = "database"
    granted: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.granted:
            return "no database is granted to this sandbox; name one in database_grants when creating it"
        known = ", ".join(self.granted)
        if not self.id:
            return f"which database? this sandbox may use {known}, and none of them is its default"
        return f"no database {self.id!r} for this sandbox; it may use {known}"


@dataclass(kw_only=True, eq=False)
class TableNotFound(NotFound):
    """No such table is shown to this sandbox."""

    reason: ClassVar[str] = "TABLE_NOT_FOUND"
    kind: ClassVar[str] = "table"
    nearest: tuple[str, ...] = ()

    def __str__(self) -> str:
        near = f"; did you mean {', '.join(self.nearest)}?" if self.nearest else ""
        return f"there is no table {self.id!r}{near}"


def _leaves(cls: type[QueryError]) -> list[type[QueryError]]:
    below = [leaf for child in cls.__subclasses__() for leaf in _leaves(child)]
    return [cls, *below] if "reason" in vars(cls) else below


BY_REASON: dict[str, type[QueryError]] = {cls.reason: cls for cls in _leaves(QueryError)}
"""The class of each reason that a worker or the gateway gives."""
