"""What an execution is and how it ended, as the host speaks of it. Nothing here knows the wire."""

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sandboxd.channel.debug import DebugSettings
from sandboxd.channel.messages import FrameReport, Input, Inspected, LogEntry, Violation
from sandboxd.channel.values import Value
from sandboxd.sandboxes.model import SessionOutcome


class ExecutionState(enum.Enum):
    """Where an execution stands; all but the first three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    ABORTED = "ABORTED"

    @property
    def final(self) -> bool:
        """Whether nothing changes any more."""
        return self not in (ExecutionState.QUEUED, ExecutionState.RUNNING, ExecutionState.PAUSED)


class ExecutionKind(enum.Enum):
    """Which call started it."""

    EXECUTE = "EXECUTE"
    QUICK_EXECUTE = "QUICK_EXECUTE"
    ANALYZE_DATA = "ANALYZE_DATA"
    DEBUG = "DEBUG"
    DEBUG_SESSION = "DEBUG_SESSION"


class FailureKind(enum.Enum):
    """Why an execution did not succeed."""

    EXCEPTION = "EXCEPTION"
    SYNTAX_ERROR = "SYNTAX_ERROR"
    POLICY_VIOLATION = "POLICY_VIOLATION"
    TIMED_OUT = "TIMED_OUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    FORBIDDEN_SYSTEM_CALL = "FORBIDDEN_SYSTEM_CALL"
    CRASHED = "CRASHED"
    EXITED = "EXITED"
    PROTOCOL_VIOLATION = "PROTOCOL_VIOLATION"
    CANCELLED = "CANCELLED"
    NEVER_RAN = "NEVER_RAN"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    SANDBOX_ENDED = "SANDBOX_ENDED"


class LimitName(enum.Enum):
    """A limit that can end an execution."""

    EXECUTION_TIMEOUT = "EXECUTION_TIMEOUT"
    MEMORY = "MEMORY"
    CPU = "CPU"
    OPEN_FILES = "OPEN_FILES"
    THREADS = "THREADS"
    OUTPUT = "OUTPUT"
    RESULT = "RESULT"
    LOG = "LOG"
    WORKSPACE = "WORKSPACE"
    PAUSE_TIMEOUT = "PAUSE_TIMEOUT"
    STEPS = "STEPS"


class WhenBusy(enum.Enum):
    """What to do while another execution runs in the sandbox."""

    QUEUE = "QUEUE"
    REFUSE = "REFUSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """What is to be run and how."""

    code: str
    kind: ExecutionKind = ExecutionKind.EXECUTE
    request_id: str = ""
    timeout: timedelta | None = None
    """None is the sandbox's own limit."""
    rollback_on_error: bool = False
    capture_frames: bool | None = None
    """None is the sandbox's `enable_debugging`."""
    when_busy: WhenBusy = WhenBusy.QUEUE
    detach_on_disconnect: bool = False
    inputs: tuple[Input, ...] = ()
    debug: DebugSettings | None = None
    """How it is traced; None runs it untraced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Bytes written to one stream; the cut, if any, is at `head_bytes`."""

    data: bytes = b""
    total_bytes: int = 0
    head_bytes: int = 0

    @property
    def truncated(self) -> bool:
        """Whether bytes are left out."""
        return self.total_bytes > len(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReceipt:
    """The limit that ended an execution, its value and what was used, both in `unit`."""

    limit: LimitName
    limit_value: int
    used_value: int
    unit: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an execution did not succeed; texts come from user code."""

    kind: FailureKind
    type_name: str = ""
    message: str = ""
    traceback: str = ""
    frames: tuple[FrameReport, ...] = ()
    violations: tuple[Violation, ...] = ()
    hint: str = ""
    signal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an execution used; times in seconds."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    queue_seconds: float = 0.0
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    paused_seconds: float = 0.0
    peak_memory_bytes: int = 0
    output_bytes: int = 0
    refused_forks: int = 0
    """Attempts of user code to fork, all refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """How an execution ended."""

    state: ExecutionState
    value: Value | None = None
    value_truncated: bool = False
    failure: Failure | None = None
    stdout: Output = Output()
    stderr: Output = Output()
    log_entries: tuple[LogEntry, ...] = ()
    inspected: tuple[Inspected, ...] = ()
    dropped_log_entries: int = 0
    usage: Usage = field(default_factory=Usage)
    limit_receipt: LimitReceipt | None = None
    session: SessionOutcome = field(default_factory=SessionOutcome)
    cancelled_tasks: int = 0
    live_threads: int = 0


@dataclass(slots=True, kw_only=True)
class Execution:
    """One run of user code. Changed only by the run that owns it."""

    id: str
    owner: str
    user_id: str
    sandbox_id: str
    request: ExecutionRequest
    create_time: datetime
    number: int = 0
    """Its number in its sandbox, from 1; 0 before it started."""
    state: ExecutionState = ExecutionState.QUEUED
    start_time: datetime | None = None
    end_time: datetime | None = None
    result: ExecutionResult | None = None
    query_count: int = 0
    trace_step_count: int = 0
    last_sequence: int = field(default=0)
