"""What an operator may set: read once from a TOML file and the environment, unknown keys refused.

The only module that reads the environment. Order: defaults, then the file named by `--config` or
`SANDBOXD_CONFIG`, then `SANDBOXD_*` variables (`SANDBOXD_PORT=0`, `SANDBOXD_LIMITS__MEMORY_BYTES=...`).
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sandboxd.database.sample import SAMPLE_NAME, SAMPLE_TABLES
from sandboxd.database.settings import DatabaseSettings
from sandboxd.isolation.plan import Grade
from sandboxd.limits import DEFAULT_LIMITS, MAXIMUM_LIMITS, Limits
from sandboxd.policy import ALLOWED_MODULES
from sandboxd.settings_tables import DatabaseSetting, LimitSettings, QuotaSettings, TlsSettings

if TYPE_CHECKING:
    from sandboxd.accounts.quotas import Quotas
    from sandboxd.store.store import StoreSettings

_PREFIX = "SANDBOXD_"
_CONFIG_VARIABLE = "SANDBOXD_CONFIG"
_HISTORY_FLUSH_SECONDS = 0.5
"""The journal has what was acknowledged; a transaction costs as much as several executions."""
_LISTS = ("allowed_modules", "without_layers", "schemas", "tables", "writable", "functions")
"""Settings that a variable gives as words between commas."""


class SettingsError(Exception):
    """A setting is unknown or not acceptable; the text names it and says what would be."""


class Settings(BaseModel):
    """Every setting of the server, with its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs `tls`."""
    port: int = Field(default=50051, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    unix_socket: Path | None = None
    """Path of a unix socket to listen on as well; it gets mode 0600."""
    tls: TlsSettings | None = None
    data_directory: Path | None = None
    """Where history and the token are kept; default: /var/lib/sandboxd as root, else
    ~/.local/state/sandboxd (XDG_STATE_HOME)."""
    token_file: Path | None = None
    """Default: `token` in the data directory; made at the first start, mode 0600."""
    reflection: bool | None = None
    """gRPC reflection; default: on for loopback, off otherwise."""

    minimum_grade: Literal["FULL", "NO_CGROUP", "NO_NAMESPACES"] = "NO_CGROUP"
    """Weakest isolation under which the server starts."""
    without_layers: frozenset[str] = frozenset()
    """Layers of isolation to leave out, as `doctor` names them; for tests and for a look ahead."""

    pool_size: int = Field(default=8, ge=0, le=256)
    """Ready guests kept for new sandboxes, about 2 MB each."""
    max_sandboxes: int = Field(default=1000, ge=1)
    max_parallel_executions: int = Field(default=128, ge=1)
    max_queued_executions: int = Field(default=1000, ge=0)
    max_queued_per_sandbox: int = Field(default=16, ge=0)
    quotas: QuotaSettings = QuotaSettings()
    """The share of each user."""
    drain_grace: timedelta = timedelta(seconds=30)
    """How long running executions may go on after SIGTERM."""
    zygote_max_age: timedelta = timedelta(minutes=10)
    """Age after which a new zygote takes over: address layout and hash seed are shared by its guests."""

    limits: LimitSettings = LimitSettings()
    """What a sandbox gets when its creator does not say."""
    maximum_limits: LimitSettings = LimitSettings()
    """The most a caller may ask for."""
    allowed_modules: tuple[str, ...] = ALLOWED_MODULES
    """Modules user code may import under the language rules."""

    databases: dict[str, DatabaseSetting] = {}
    """Databases by the name that grants and queries use."""
    sample_database: bool | None = None
    """Whether a SQLite database named `sample` is built and served; default: when no other is named."""
    max_database_workers: int = Field(default=4, ge=1, le=64)
    """Processes that run SQL, about 50 MB each; they are started as they are needed."""

    history_url: str = ""
    """Database of the history, `sqlite:///path` or `postgresql://...`; default: a SQLite file in the data
    directory."""
    history_survives_power_loss: bool = False
    """Acknowledge only what is on the disk itself; costs a flush an execution."""
    history_max_age: timedelta = timedelta(days=30)
    """Executions, ended sandboxes and queries older than this are deleted."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port that answers `GET /metrics` for Prometheus, without a token; 0 takes a free one; default: off."""
    metrics_host: str = "127.0.0.1"
    """Address of `metrics_port`; only loopback is taken."""

    tracing: bool = False
    """Spans of calls and executions for OpenTelemetry; needs the extra `otel`, and the standard OTEL_*
    variables say where they go."""

    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if not is_loopback(self.host) and self.tls is None:
            raise ValueError(f"host {self.host!r} is not loopback: set tls.certificate and tls.key")
        if not is_loopback(self.metrics_host):
            raise ValueError(f"metrics_host {self.metrics_host!r} is not loopback: figures need no token")
        for name in Limits.__dataclass_fields__:
            if getattr(self.default_limits, name) > getattr(self.highest_limits, name):
                raise ValueError(f"limits.{name} is above maximum_limits.{name}")
        if sum(database.default for database in self.databases.values()) > 1:
            raise ValueError("databases: more than one is the default")
        for name, database in self.databases.items():
            database.named(name)
        return self

    @property
    def default_limits(self) -> Limits:
        """Limits of a sandbox whose creator does not say."""
        return self.limits.over(DEFAULT_LIMITS)

    @property
    def highest_limits(self) -> Limits:
        """Ceilings of what a caller may ask for."""
        return self.maximum_limits.over(MAXIMUM_LIMITS)

    @property
    def builds_sample(self) -> bool:
        """Whether the sample database is served."""
        return not self.databases if self.sample_database is None else self.sample_database

    @property
    def sample_path(self) -> Path:
        """Where the sample database lies."""
        return self.state_directory / "sample.db"

    @property
    def database_settings(self) -> tuple[DatabaseSettings, ...]:
        """Every database that is served, the sample one included."""
        named = [database.named(name) for name, database in self.databases.items()]
        if self.builds_sample and SAMPLE_NAME not in self.databases:
            url = f"sqlite:///{self.sample_path.absolute()}"
            named.append(DatabaseSettings(name=SAMPLE_NAME, url=url, writable=SAMPLE_TABLES))
        return tuple(named)

    @property
    def default_database(self) -> str:
        """The database a sandbox gets that asks for none; empty when it gets none."""
        for name, database in self.databases.items():
            if database.default:
                return name
        return SAMPLE_NAME if self.builds_sample and not self.databases else ""

    @property
    def user_quotas(self) -> "Quotas":
        """`quotas` as the accounts know them."""
        from sandboxd.accounts.quotas import Quotas

        return Quotas(**self.quotas.model_dump())

    @property
    def floor(self) -> Grade:
        """`minimum_grade` as a grade."""
        return Grade(self.minimum_grade)

    @property
    def state_directory(self) -> Path:
        """`data_directory`, or its default."""
        return self.data_directory or default_state_directory(os.environ)

    @property
    def token_path(self) -> Path:
        """`token_file`, or its default."""
        return self.token_file or self.state_directory / "token"

    @property
    def store_settings(self) -> "StoreSettings":
        """Where and how the history is kept."""
        from sandboxd.store.retention import RetentionPolicy
        from sandboxd.store.store import StoreSettings

        return StoreSettings(
            directory=self.state_directory / "history",
            url=self.history_url,
            survive_power_loss=self.history_survives_power_loss,
            flush_interval_seconds=_HISTORY_FLUSH_SECONDS,
            retention=RetentionPolicy(max_age=self.history_max_age, query_max_age=self.history_max_age),
        )

    @property
    def token_book_path(self) -> Path:
        """Hashes of all tokens, with principal, role and expiry."""
        return self.state_directory / "tokens.json"

    @property
    def serves_reflection(self) -> bool:
        """Whether reflection is on."""
        return is_loopback(self.host) if self.reflection is None else self.reflection


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False  # a name that begins with 127. may be anybody's


def default_state_directory(environment: Mapping[str, str]) -> Path:
    """Where the server keeps its state; the client looks for the token at the same place."""
    if os.geteuid() == 0:
        return Path("/var/lib/sandboxd")
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "sandboxd"


def load_settings(
    *, config: Path | None = None, environment: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """Settings from file, environment and `overrides`, later ones winning; bad ones are `SettingsError`."""
    environment = os.environ if environment is None else environment
    path = config or (Path(environment[_CONFIG_VARIABLE]) if environment.get(_CONFIG_VARIABLE) else None)
    values = _from_file(path) if path else {}
    for name, text in environment.items():
        if name.startswith(_PREFIX) and name not in (_CONFIG_VARIABLE, "SANDBOXD_TOKEN", "SANDBOXD_ADDRESS"):
            _put(values, name.removeprefix(_PREFIX).lower().split("__"), text)
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error


def _put(values: dict[str, Any], path: list[str], text: str) -> None:
    *parents, last = path
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"{parent} is a single value, not a table")
        values = inner
    values[last] = text.split(",") if last in _LISTS else text


def _explain(error: ValidationError) -> str:
    problems = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        if item["type"] == "extra_forbidden":
            problems.append(f"{where}: no such setting")
        else:
            problems.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
