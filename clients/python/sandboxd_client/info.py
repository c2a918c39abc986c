"""Sandboxes, their states and what a server can do, as plain Python objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sandboxd_client.options import LanguagePolicy, Limits
from sandboxd_client.results import CheckpointReport, Variable


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxInfo:
    """A sandbox as the server last told it."""

    id: str
    user_id: str
    state: str
    """`active`, `deleted`, `expired` or `aborted`."""
    limits: Limits
    """What was asked for, with every default filled in."""
    enable_debugging: bool
    create_time: datetime | None
    last_use_time: datetime | None
    expire_time: datetime | None
    """When it expires unless it is used before."""
    end_time: datetime | None
    execution_count: int
    running_execution_id: str
    queued_execution_count: int
    origin_sandbox_id: str
    """The sandbox it was branched from; empty when it was created."""
    family_id: str
    checkpoint: CheckpointReport
    isolation_grade: str
    """`full`, `no_cgroup` or `no_namespaces`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxState:
    """What a session holds."""

    sandbox: SandboxInfo
    variables: Mapping[str, Variable]
    """By name."""
    total_variable_count: int
    live_thread_count: int
    memory_bytes: int
    """Above the interpreter's own; 0 when it could not be measured."""
    workspace_bytes: int

    def __getitem__(self, name: str) -> Variable:
        return self.variables[name]

    def __contains__(self, name: str) -> bool:
        return name in self.variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A kept state of a session."""

    id: str
    sandbox_id: str
    name: str
    after_execution_id: str
    """The execution after which the state stood; empty for the fresh session."""
    after_execution_number: int
    create_time: datetime | None
    memory_bytes: int
    ahead: bool
    """Whether the state lies ahead of the session, after a rewind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """What a rewind did."""

    sandbox: SandboxInfo
    restored: Checkpoint
    """The state that is the session now."""
    left: Checkpoint | None
    """The state that was left, to go forward again; None when it could not be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFunction:
    """A function that user code finds in its namespace."""

    name: str
    signature: str
    description: str
    example: str
    category: str
    awaitable: bool
    available: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestApi:
    """What user code may use."""

    functions: tuple[GuestFunction, ...]
    allowed_modules: tuple[str, ...]
    """Empty when all may be imported."""
    blocked_builtins: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeExample:
    """A complete piece of code that runs in a sandbox."""

    name: str
    title: str
    description: str
    code: str
    requires_database: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTimes:
    """How long executions spent in one phase."""

    count: int
    mean: timedelta
    p50: timedelta
    p90: timedelta
    p99: timedelta
    maximum: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Figures about sandboxes and executions."""

    start_time: datetime | None
    end_time: datetime | None
    active_sandbox_count: int
    created_sandbox_count: int
    running_execution_count: int
    queued_execution_count: int
    finished_execution_count: int
    success_percent: float
    average_execution_time: timedelta
    status_counts: Mapping[str, int]
    phase_times: Mapping[str, PhaseTimes]
    """By phase: `queue`, `start`, `run`, `end`."""
    limit_counts: Mapping[str, int]
    query_count: int
    ready_guest_count: int
    """Guests of the server that wait for the next sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationLayer:
    """One layer of the isolation."""

    name: str
    state: str
    """`active`, `partial` or `missing`."""
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a server can do."""

    isolation_grade: str
    isolation_layers: tuple[IsolationLayer, ...]
    default_limits: Limits
    maximum_limits: Limits
    versions: Mapping[str, str]
    """By component, such as `sandboxd`, `python`, `pandas`."""
    default_language_policy: LanguagePolicy
    unrestricted_allowed: bool
    databases: tuple[str, ...]
    checkpoints: bool
    checkpoints_missing_reason: str
    trace_engine: str
    maximum_request_bytes: int
    maximum_fork_count: int = field(default=0)
