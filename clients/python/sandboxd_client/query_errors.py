"""Why a query did not run or has no result; leaves of the client's error tree, the server's own classes.

SandboxdError
└── QueryError                     has `hint`, `query_id`, `layer`; the rest of what varies in `metadata`
    ├── QueryTextError             correct the statement or its parameters
    │   ├── SqlSyntaxError, SqlMultipleStatements, SqlTooComplex
    │   ├── SqlParameterError
    │   ├── SqlUndefined           unknown, or hidden, which looks the same
    │   └── SqlDataError           a value the statement computed is not acceptable
    ├── QueryDenied                do not retry
    │   ├── SqlStatementDenied, SqlFunctionDenied, SqlObjectDenied
    │   └── SqlWriteNotGranted     `metadata["grant"]` is the grant to ask for
    ├── QueryLimitReached
    │   ├── AffectedRowsLimit, TemporarySpaceLimit, ValueBytesLimit
    │   └── QueryQueueFull         retry
    ├── QueryTimeLimit
    ├── SqlConstraintViolated
    ├── SqlConflict                retry
    ├── QueryCancelled
    ├── DatabaseUnavailable        a read may be tried again
    │   ├── QueryNotRecorded
    │   └── DatabaseRoleUnsafe
    └── DialectUnsupported
NotFound
├── DatabaseNotFound               not granted looks like missing
└── TableNotFound
"""

from sandboxd_client.errors import NotFound, SandboxdError


class QueryError(SandboxdError):
    """Root of the database's errors."""

    reason = "QUERY_FAILED"

    @property
    def hint(self) -> str:
        """What to do instead; may be empty."""
        return self.metadata.get("hint", "")

    @property
    def query_id(self) -> str:
        """The attempt's id in the audit."""
        return self.metadata.get("query_id", "")

    @property
    def layer(self) -> str:
        """Which layer decided."""
        return self.metadata.get("layer", "")


class QueryTextError(QueryError):
    """The statement or its parameters must be corrected."""


class SqlSyntaxError(QueryTextError):
    """Not a statement of the dialect."""

    reason = "SQL_SYNTAX"


class SqlMultipleStatements(QueryTextError):
    """More than one statement."""

    reason = "SQL_MULTIPLE_STATEMENTS"


class SqlTooComplex(QueryTextError):
    """Longer, deeper or wider than any statement needs to be."""

    reason = "SQL_TOO_COMPLEX"


class SqlParameterError(QueryTextError):
    """A parameter is missing, superfluous or of the wrong type."""

    reason = "SQL_PARAMETER"


class SqlUndefined(QueryTextError):
    """An unknown table, column or function."""

    reason = "SQL_UNDEFINED"


class SqlDataError(QueryTextError):
    """The engine could not compute a value, such as a division by zero."""

    reason = "SQL_DATA"


class QueryDenied(QueryError):
    """Policy refuses the statement."""


class SqlStatementDenied(QueryDenied):
    """A kind of statement or a construct."""

    reason = "SQL_STATEMENT_DENIED"


class SqlFunctionDenied(QueryDenied):
    """A function."""

    reason = "SQL_FUNCTION_DENIED"


class SqlObjectDenied(QueryDenied):
    """An object of the database."""

    reason = "SQL_OBJECT_DENIED"


class SqlWriteNotGranted(QueryDenied):
    """A write without a grant."""

    reason = "SQL_WRITE_NOT_GRANTED"


class QueryLimitReached(QueryError):
    """A cap that is an error, not a cut result."""


class AffectedRowsLimit(QueryLimitReached):
    """The write would change more rows than granted; it was rolled back."""

    reason = "LIMIT_AFFECTED_ROWS"


class TemporarySpaceLimit(QueryLimitReached):
    """The engine's limit on temporary space."""

    reason = "LIMIT_TEMPORARY_SPACE"


class ValueBytesLimit(QueryLimitReached):
    """A single value or the whole result needs more memory than a query may use."""

    reason = "LIMIT_VALUE_BYTES"


class QueryQueueFull(QueryLimitReached):
    """This sandbox runs and queues as many queries as it may."""

    reason = "QUERY_QUEUE_FULL"


class QueryTimeLimit(QueryError):
    """The statement's time ran out."""

    reason = "LIMIT_QUERY_TIME"


class SqlConstraintViolated(QueryError):
    """A constraint of the database refuses a granted write."""

    reason = "SQL_CONSTRAINT"


class SqlConflict(QueryError):
    """Another transaction was in the way."""

    reason = "SQL_CONFLICT"


class QueryCancelled(QueryError):
    """The caller went away or the execution ended."""

    reason = "QUERY_CANCELLED"


class DatabaseUnavailable(QueryError):
    """The engine or the worker is gone; a read may be tried again, look before retrying a write."""

    reason = "DATABASE_UNAVAILABLE"


class QueryNotRecorded(DatabaseUnavailable):
    """The audit could not be written, so the statement was not run."""

    reason = "QUERY_NOT_RECORDED"


class DatabaseRoleUnsafe(DatabaseUnavailable):
    """The server's settings name a role that no agent's SQL may run as."""

    reason = "DATABASE_ROLE_UNSAFE"


class DialectUnsupported(QueryError):
    """A construct that the dialect bridge does not carry; `metadata["construct"]` names it."""

    reason = "SQL_DIALECT_UNSUPPORTED"


class DatabaseNotFound(NotFound):
    """No such database is granted to this sandbox."""

    reason = "DATABASE_NOT_FOUND"
    kind = "database"


class TableNotFound(NotFound):
    """No such table is shown to this sandbox."""

    reason = "TABLE_NOT_FOUND"
    kind = "table"
