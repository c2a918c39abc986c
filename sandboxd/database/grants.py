"""What a sandbox may do with a database: tables it reads, writes it makes, caps on each query."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sandboxd.limits import MIB


class Operation(StrEnum):
    """A way to change a table."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteGrant:
    """Leave to change one table in one way."""

    table: str
    """Name of the table, with its schema where that is not the default one."""
    operation: Operation
    columns: tuple[str, ...] = ()
    """Columns that may be set; empty for DELETE, which names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLimits:
    """Caps of one query. A caller may lower them, never raise them."""

    max_rows: int = 1000
    """Rows that are returned."""
    max_bytes: int = 8 * MIB
    """Bytes of values that are returned."""
    timeout: timedelta = timedelta(seconds=5)
    """Time from the start of the statement to its last row."""

    def lowered(
        self, *, max_rows: int | None = None, max_bytes: int | None = None, timeout: timedelta | None = None
    ) -> "QueryLimits":
        """These limits, lowered by what is given; a larger value changes nothing."""
        return QueryLimits(
            max_rows=self.max_rows if max_rows is None else min(self.max_rows, max_rows),
            max_bytes=self.max_bytes if max_bytes is None else min(self.max_bytes, max_bytes),
            timeout=self.timeout if timeout is None else min(self.timeout, timeout),
        )


DEFAULT_QUERY_LIMITS = QueryLimits()
"""What a grant has that does not say."""
MAXIMUM_QUERY_LIMITS = QueryLimits(max_rows=100_000, max_bytes=256 * MIB, timeout=timedelta(seconds=60))
"""The most a grant may give unless the settings say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseGrant:
    """Leave of one sandbox to use one database."""

    database: str
    """Name in the server's settings."""
    is_default: bool = False
    """Whether it is used when a query names none."""
    tables: tuple[str, ...] = ()
    """Tables and views that may be read; empty means all that the settings show."""
    writes: tuple[WriteGrant, ...] = ()
    """What may be written; default nothing."""
    max_affected_rows: int = 1000
    """Rows one statement may change; more rolls it back."""
    limits: QueryLimits = DEFAULT_QUERY_LIMITS
    """Caps of each query."""
