"""What an operator says about a database, apart from how it is written in a file."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from sandboxd.database.grants import DEFAULT_QUERY_LIMITS, MAXIMUM_QUERY_LIMITS, QueryLimits
from sandboxd.database.protocol import DatabaseSpec, Engine

_POSTGRES_OPTIONS = frozenset({"sslmode", "host", "port", "user", "dbname", "passfile", "sslrootcert"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """One database that sandboxes may be granted."""

    name: str
    """What grants and queries call it."""
    url: str
    """`sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://...`. Never shown to anyone."""
    schemas: tuple[str, ...] = ()
    """PostgreSQL schemas that are shown, the default one first; empty means `public`."""
    tables: tuple[str, ...] | None = None
    """The only tables that are shown; None shows all that the role may read."""
    writable: tuple[str, ...] = ()
    """Tables that a sandbox may be granted writes to; default none."""
    functions: tuple[str, ...] = ()
    """Functions allowed beside the engine's own harmless ones, such as those of an extension."""
    default_limits: QueryLimits = DEFAULT_QUERY_LIMITS
    maximum_limits: QueryLimits = MAXIMUM_QUERY_LIMITS
    record_values: bool = False
    """Whether the audit keeps the values of parameters; they are redacted otherwise."""
    refuse_unrecorded_reads: bool = True
    """Whether a read is refused, like a write, when the audit cannot be written."""
    allow_unsafe_role: bool = False
    """Only tests set it: opens PostgreSQL as a superuser."""

    def __post_init__(self) -> None:
        if problem := problem_of(self.url):
            raise ValueError(f"database {self.name!r}: {problem}")

    @property
    def engine(self) -> Engine:
        """Which engine the URL names."""
        return "sqlite" if self.url.startswith("sqlite:") else "postgresql"

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """The SQL to write."""
        return self.engine

    def spec(self) -> DatabaseSpec:
        """What a worker is told."""
        return DatabaseSpec(
            name=self.name,
            engine=self.engine,
            url=self.url,
            schemas=list(self.schemas),
            tables=None if self.tables is None else list(self.tables),
            functions=list(self.functions),
            allow_unsafe_role=self.allow_unsafe_role,
        )

    def __repr__(self) -> str:
        """Without the URL, which holds a password."""
        return f"DatabaseSettings(name={self.name!r}, engine={self.engine!r})"


def problem_of(url: str) -> str:
    """What is wrong with a URL, in words that do not repeat it; empty when nothing is."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return "" if url.startswith("sqlite:///") and len(url) > len("sqlite:///") and not parts.query else (
            "a SQLite URL is sqlite:/// and a path, without options"
        )  # fmt: skip
    if parts.scheme not in {"postgresql", "postgres"}:
        return "the URL must begin with sqlite:/// or postgresql://"
    # An unknown option would become a setting of the session: a typing error must not switch anything off.
    unknown = [
        name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if name not in _POSTGRES_OPTIONS
    ]
    return f"option {unknown[0]!r} of the URL is unknown" if unknown else ""
