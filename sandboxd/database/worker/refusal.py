"""Why a statement was not run, or ended without a result, as the worker knows it."""

from enum import StrEnum


class Layer(StrEnum):
    """Which layer decided. Each of them is tested alone."""

    TEXT = "text"
    BINDER = "binder"
    BRIDGE = "bridge"
    GUARD = "guard"
    PARAMETERS = "parameters"
    ENGINE = "engine"
    LIMIT = "limit"
    GATEWAY = "gateway"


class Reason(StrEnum):
    """Machine-readable reasons; `sandboxd.database.errors` has one class for each."""

    SYNTAX = "SQL_SYNTAX"
    PARAMETER = "SQL_PARAMETER"
    MULTIPLE_STATEMENTS = "SQL_MULTIPLE_STATEMENTS"
    TOO_COMPLEX = "SQL_TOO_COMPLEX"
    STATEMENT_DENIED = "SQL_STATEMENT_DENIED"
    FUNCTION_DENIED = "SQL_FUNCTION_DENIED"
    OBJECT_DENIED = "SQL_OBJECT_DENIED"
    WRITE_NOT_GRANTED = "SQL_WRITE_NOT_GRANTED"
    UNDEFINED = "SQL_UNDEFINED"
    DATA = "SQL_DATA"
    CONSTRAINT = "SQL_CONSTRAINT"
    CONFLICT = "SQL_CONFLICT"
    LIMIT_BYTES = "LIMIT_VALUE_BYTES"
    LIMIT_AFFECTED = "LIMIT_AFFECTED_ROWS"
    LIMIT_TEMP = "LIMIT_TEMPORARY_SPACE"
    LIMIT_TIME = "LIMIT_QUERY_TIME"
    CANCELLED = "QUERY_CANCELLED"
    UNAVAILABLE = "DATABASE_UNAVAILABLE"
    DIALECT = "SQL_DIALECT_UNSUPPORTED"
    UNSAFE_ROLE = "DATABASE_ROLE_UNSAFE"
    NOT_RECORDED = "QUERY_NOT_RECORDED"


class Refusal(Exception):
    """Ends a statement. `problem` and `hint` are for the caller and never name a host, path or role."""

    def __init__(
        self, reason: Reason, layer: Layer, problem: str, *, hint: str = "", **detail: str | int
    ) -> None:
        super().__init__(problem)
        self.reason = reason
        self.layer = layer
        self.problem = problem
        self.hint = hint
        self.detail = {name: str(value) for name, value in detail.items()}
        """What varies, by name: `line`, `column`, `function`, `table`, `grant`, `sqlstate` ..."""
