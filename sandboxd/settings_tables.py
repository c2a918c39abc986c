"""The tables of the settings: limits, quotas, certificates and databases, as an operator writes them."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from sandboxd.database.grants import QueryLimits
from sandboxd.database.settings import DatabaseSettings
from sandboxd.limits import Limits


class LimitSettings(BaseModel):
    """A set of limits; what is left out keeps the product's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    execution_timeout: timedelta | None = Field(default=None, gt=timedelta(0))
    memory_bytes: int | None = Field(default=None, gt=0)
    cpu_percent: int | None = Field(default=None, gt=0)
    open_files: int | None = Field(default=None, ge=16)
    threads: int | None = Field(default=None, ge=0)
    output_bytes: int | None = Field(default=None, gt=0)
    result_bytes: int | None = Field(default=None, gt=0)
    log_bytes: int | None = Field(default=None, gt=0)
    source_bytes: int | None = Field(default=None, gt=0)
    workspace_bytes: int | None = Field(default=None, gt=0)
    workspace_inodes: int | None = Field(default=None, ge=16)
    idle_timeout: timedelta | None = Field(default=None, gt=timedelta(0))

    def over(self, base: Limits) -> Limits:
        """These limits where given, else those of `base`."""
        given = {name: value for name, value in self if value is not None}
        return Limits(**{name: given.get(name, getattr(base, name)) for name in Limits.__dataclass_fields__})


class SubjectSettings(BaseModel):
    """Which principal a client certificate stands for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str = Field(min_length=1)
    """A subject alternative name as it is, such as `spiffe://org/agent`, or `CN=` and a common name."""
    principal: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:/-]{0,127}$")
    role: Literal["admin", "service", "user"] = "user"


class QuotaSettings(BaseModel):
    """The share of one user; what is over it is refused with the time after which to try again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sandboxes: int = Field(default=200, ge=1)
    parallel_executions: int = Field(default=64, ge=1)
    queued_executions: int = Field(default=500, ge=0)
    debug_streams: int = Field(default=16, ge=0)
    cpu_seconds_per_minute: float = Field(default=120.0, gt=0)
    """Of all executions together; a minute's worth may be used at once."""
    stored_bytes: int = Field(default=1 << 30, ge=1)
    """Of history: code, results, output, logs."""


class TlsSettings(BaseModel):
    """Certificates of the TCP port; needed for any address but loopback."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: Path
    key: Path
    """Must not be readable by others."""
    client_ca: Path | None = None
    """When set, clients must show a certificate of this authority."""
    subjects: tuple[SubjectSettings, ...] = ()
    """Certificates that stand for a principal, so that no token is needed."""


class DatabaseSetting(BaseModel):
    """A database that sandboxes may be granted: `[databases.<name>]` in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr
    """`sqlite:////path` or `postgresql://role:password@host/name`; never shown to anyone."""
    default: bool = False
    """Whether a sandbox that asks for no database is granted this one, to read."""
    schemas: tuple[str, ...] = ()
    """PostgreSQL schemas that are shown, the default one first; empty: `public`."""
    tables: tuple[str, ...] | None = None
    """The only tables that are shown; default: all that the role may read."""
    writable: tuple[str, ...] = ()
    """Tables that a sandbox may be granted writes to."""
    functions: tuple[str, ...] = ()
    """Functions allowed beside those known to be harmless."""
    record_values: bool = False
    """Whether the audit keeps the values of parameters."""
    max_rows: int = Field(default=1000, ge=1)
    max_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    timeout: timedelta = Field(default=timedelta(seconds=5), gt=timedelta(0))
    """Caps of a query whose grant does not say."""

    def named(self, name: str) -> DatabaseSettings:
        """As the database's own room has it; raises ValueError for a URL that is none."""
        return DatabaseSettings(
            name=name,
            url=self.url.get_secret_value(),
            schemas=self.schemas,
            tables=self.tables,
            writable=self.writable,
            functions=self.functions,
            record_values=self.record_values,
            default_limits=QueryLimits(
                max_rows=self.max_rows, max_bytes=self.max_bytes, timeout=self.timeout
            ),
        )
