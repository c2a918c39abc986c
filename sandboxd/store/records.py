"""What the store keeps: one frozen record a noun. Opaque parts are bytes or JSON text of the caller's."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar


class SandboxState(StrEnum):
    """Whether a sandbox can still be used; all but ACTIVE are final."""

    ACTIVE = "ACTIVE"
    DELETED = "DELETED"
    EXPIRED = "EXPIRED"
    ABORTED = "ABORTED"
    """The server ended while it was active: its process is gone, its history stays."""


class ExecutionState(StrEnum):
    """How far an execution is; all but the first three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    """A debug session holds it; kept as RUNNING is."""
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    ABORTED = "ABORTED"
    """The server or the guest ended beneath it: what it did by then is unknown."""


Record = TypeVar("Record")

LIVE_STATES = (ExecutionState.QUEUED, ExecutionState.RUNNING, ExecutionState.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRecord:
    """A sandbox, living or gone."""

    id: str
    owner: str
    """The principal whose it is; every look-up needs it."""
    user_id: str
    """Whom the owner acts for: counted, filtered and deleted by; it gives no access."""
    state: SandboxState
    create_time: datetime
    expire_time: datetime | None = None
    end_time: datetime | None = None
    end_reason: str | None = None
    limits: str = "{}"
    """JSON text."""
    policy: str = "{}"
    """JSON text."""
    labels: str = "{}"
    """JSON text: names, origin of a branch and the like."""
    request_id: str | None = None
    request_fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseDurations:
    """Where the time of an execution went, in microseconds; None where a phase was not reached."""

    queue_us: int | None = None
    """From arrival to a slot."""
    start_us: int | None = None
    """From the slot to the first line of user code."""
    run_us: int | None = None
    """User code."""
    end_us: int | None = None
    """From the last line of user code to the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionOutcome:
    """How an execution ended."""

    state: ExecutionState
    end_time: datetime
    start_time: datetime | None = None
    result: bytes = b""
    """The whole encoded result, opaque to the store."""
    stdout: bytes = b""
    stderr: bytes = b""
    log: bytes = b""
    """Debug log and inspected variables, opaque to the store."""
    usage: str = "{}"
    """JSON text."""
    limit_name: str | None = None
    """Which limit ended it; counted by statistics."""
    limit_receipt: str | None = None
    """JSON text: the limit, its value, what was used."""
    failure_kind: str | None = None
    failure: str | None = None
    """One line for lists: kind and message of what went wrong."""
    phases: PhaseDurations = PhaseDurations()
    trace_reference: str | None = None

    @property
    def stored_bytes(self) -> int:
        """What it takes of its user's storage."""
        return len(self.result) + len(self.stdout) + len(self.stderr) + len(self.log)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
    """An execution: what was asked and, once it has ended, the outcome."""

    id: str
    sandbox_id: str
    owner: str
    user_id: str
    state: ExecutionState
    create_time: datetime
    code: str
    kind: str = "EXECUTE"
    """Which call made it."""
    request_id: str | None = None
    """Unique for the owner; the same id never runs twice."""
    request_fingerprint: bytes | None = None
    """Hash of the request: the same id with another request is a mistake of the caller's."""
    trace_parent: str | None = None
    start_time: datetime | None = None
    """Set once its turn has come; then a crash leaves its outcome unknown."""
    outcome: ExecutionOutcome | None = None

    @property
    def stored_bytes(self) -> int:
        """What it takes of its user's storage; characters of code are counted as bytes."""
        return len(self.code) + (self.outcome.stored_bytes if self.outcome else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSummary:
    """An execution as lists show it: everything but the large parts."""

    id: str
    sandbox_id: str
    owner: str
    user_id: str
    kind: str
    state: ExecutionState
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    phases: PhaseDurations
    failure_kind: str | None
    failure: str | None
    limit_name: str | None
    limit_receipt: str | None
    usage: str
    request_id: str | None
    trace_reference: str | None
    stored_bytes: int


class QueryVerdict(StrEnum):
    """What became of a statement."""

    STARTED = "STARTED"
    """Written ahead of a statement that writes: it may or may not have been committed."""
    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRecord:
    """One attempt to run SQL, refused ones too: who, from where, what, and what became of it."""

    id: str
    owner: str
    user_id: str
    time: datetime
    database: str
    sql: str
    """Text as sent; the caller has cut what is too long."""
    verdict: QueryVerdict
    sandbox_id: str | None = None
    execution_id: str | None = None
    origin: str = "grpc"
    line: int = 0
    """Line of user code that asked; 0 where there is none."""
    sql_truncated: bool = False
    bridged_sql: str = ""
    """What was sent to the engine, where the bridge rewrote it."""
    fingerprint: str = ""
    kind: str = ""
    tables: tuple[str, ...] = ()
    written_columns: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    parameters: str = "[]"
    """JSON text: names, types and sizes; values only as the policy has it."""
    layer: str = ""
    """Which layer decided."""
    reason: str = ""
    message: str = ""
    sqlstate: str = ""
    rows: int = 0
    size_bytes: int = 0
    affected: int = 0
    truncated_by: str = ""
    queue_us: int = 0
    check_us: int = 0
    engine_us: int = 0
    worker_pid: int = 0


@dataclass(frozen=True, slots=True)
class Begun:
    """The record is new and durable: go ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(Generic[Record]):
    """The same request came before: answer with `record`, or join it while it lives."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFigures:
    """Microseconds over `count` executions; percentiles by nearest rank."""

    count: int
    mean_us: float
    p50_us: int
    p90_us: int
    p99_us: int
    maximum_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Figures over a span of history."""

    active_sandboxes: int
    """Now, whatever the span."""
    created_sandboxes: int
    executions_by_state: Mapping[ExecutionState, int]
    executions_by_limit: Mapping[str, int]
    """How often each limit ended one."""
    average_execution_seconds: float | None
    """Mean time of user code of those that ended; None while there is none."""
    phases: Mapping[str, PhaseFigures]
    """By `queue`, `start`, `run`, `end`, over the latest 10,000 executions of the span."""
    queries: int
    """Attempted, refused ones included."""
    stored_bytes: int

    @property
    def finished_executions(self) -> int:
        return sum(n for state, n in self.executions_by_state.items() if state not in LIVE_STATES)

    @property
    def success_rate(self) -> float | None:
        """Share of ended executions that succeeded, 0 to 1; None while none has ended."""
        if not self.finished_executions:
            return None
        return self.executions_by_state.get(ExecutionState.SUCCEEDED, 0) / self.finished_executions
