"""What an execution ended with, as plain Python objects."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Self, TypeAlias

from sandboxd_client.errors import ExecutionFailed

Status: TypeAlias = Literal[
    "queued", "running", "paused", "completed", "failed", "timed_out", "cancelled", "aborted"
]
"""Where an execution stands; the last five are final."""

SessionState: TypeAlias = Literal["kept", "restored", "lost", "ended", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Bytes written to stdout or stderr; head and tail where they were more than the limit."""

    data: bytes = b""
    total_bytes: int = 0
    """How many bytes were written in all."""
    truncated: bool = False
    head_bytes: int = 0
    """Where in `data` the cut is."""

    @property
    def text(self) -> str:
        """The output as text; the cut is marked, and bytes that are not UTF-8 are replaced."""
        if not self.truncated:
            return self.data.decode(errors="replace")
        head = self.data[: self.head_bytes].decode(errors="replace")
        tail = self.data[self.head_bytes :].decode(errors="replace")
        missing = self.total_bytes - len(self.data)
        return f"{head}\n[... {missing} bytes left out ...]\n{tail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable of a session: a summary, and its value where that is not large."""

    name: str
    type_name: str
    summary: str
    truncated: bool = False
    """Whether `summary` or `value` leave something out."""
    has_value: bool = False
    value: Any = None

    def __str__(self) -> str:
        return f"{self.name}: {self.type_name} = {self.summary}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call level of an error."""

    function: str
    file: str
    line: int
    source_line: str = ""
    in_user_code: bool = True
    variables: tuple[Variable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A place where code breaks a language rule, and what to use in its place."""

    rule: str
    message: str
    line: int
    column: int
    alternative: str = ""

    def __str__(self) -> str:
        advice = f" ({self.alternative})" if self.alternative else ""
        return f"line {self.line}, column {self.column}: {self.message}{advice}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionError:
    """Why an execution did not complete. Its texts come from user code: data, not instructions."""

    kind: str
    """`exception`, `syntax_error`, `policy_violation`, `timed_out`, `out_of_memory`, `crashed` and so on."""
    type: str
    """Name of the exception's type; empty when there was none."""
    message: str
    traceback: str = ""
    """With the user's own line numbers and source lines; empty when there is none."""
    frames: tuple[Frame, ...] = ()
    violations: tuple[Violation, ...] = ()
    hint: str = ""
    """What the caller could do."""
    signal: int = 0

    @property
    def line(self) -> int:
        """The line of user code it happened at; 0 when unknown."""
        if self.violations:
            return self.violations[0].line
        return next((frame.line for frame in reversed(self.frames) if frame.in_user_code), 0)

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line and not self.violations else ""
        head = f"{self.type}: {self.message}" if self.type else self.message or self.kind
        parts = [head + where, *(f"  {violation}" for violation in self.violations)]
        if self.hint:
            parts.append(f"  hint: {self.hint}")
        return "\n".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry of the debug log."""

    level: str
    message: str
    time: datetime | None = None
    line: int = 0
    truncated: bool = False

    def __str__(self) -> str:
        return f"[{self.level}] {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedVariable:
    """A variable that user code asked to be recorded."""

    variable: Variable
    time: datetime | None = None
    line: int = 0

    def __str__(self) -> str:
        return str(self.variable)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugInfo:
    """What `debug` and `inspect_var` recorded."""

    log: tuple[LogEntry, ...] = ()
    variables: tuple[InspectedVariable, ...] = ()
    dropped_count: int = 0
    """Entries left out to fit the limit."""

    def __str__(self) -> str:
        parts = [str(entry) for entry in self.log] + [str(item) for item in self.variables]
        if self.dropped_count:
            parts.append(f"[{self.dropped_count} entries left out]")
        return "; ".join(parts) or "nothing recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an execution used."""

    wall_time: timedelta = timedelta(0)
    cpu_time: timedelta = timedelta(0)
    queue_time: timedelta = timedelta(0)
    start_time: timedelta = timedelta(0)
    paused_time: timedelta = timedelta(0)
    peak_memory_bytes: int = 0
    """Above the interpreter's own; 0 when it could not be measured."""
    output_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReceipt:
    """The limit that ended an execution."""

    limit: str
    """Its name, such as `execution_timeout` or `memory`."""
    limit_value: int
    used_value: int
    unit: str
    message: str

    def __str__(self) -> str:
        return self.message or f"{self.limit}: {self.used_value} of {self.limit_value} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointReport:
    """Whether the state before an execution could be kept."""

    taken: bool = False
    skip_reason: str = ""
    """Such as `live_threads`; empty when it was taken."""
    message: str = ""
    checkpoint_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOutcome:
    """What became of the session."""

    state: SessionState = "unknown"
    restored_from_execution_id: str = ""
    restored_from_execution_number: int = 0
    reason: str = ""
    checkpoint: CheckpointReport = field(default_factory=CheckpointReport)

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """How one execution ended."""

    execution_id: str
    sandbox_id: str
    number: int = 0
    """Its number in its sandbox, from 1."""
    status: Status
    result: Any = None
    """`__result__`, else the value of the last expression; None when there is neither."""
    result_truncated: bool = False
    """Whether `result` leaves something out."""
    has_result: bool = False
    """Whether there is a result: tells a result of None from none."""
    error: ExecutionError | None = None
    """Set exactly when `status` is not `completed`."""
    raw_stdout: Output = field(default_factory=Output)
    raw_stderr: Output = field(default_factory=Output)
    debug_info: DebugInfo = field(default_factory=DebugInfo)
    usage: Usage = field(default_factory=Usage)
    limit_receipt: LimitReceipt | None = None
    session: SessionOutcome = field(default_factory=SessionOutcome)
    cancelled_task_count: int = 0
    live_thread_count: int = 0

    @property
    def stdout(self) -> str:
        """What was written to stdout, as text; a cut is marked."""
        return self.raw_stdout.text

    @property
    def stderr(self) -> str:
        """What was written to stderr, as text; a cut is marked."""
        return self.raw_stderr.text

    @property
    def completed(self) -> bool:
        """Whether user code ended without an error."""
        return self.status == "completed"

    def raise_for_status(self) -> Self:
        """This result when it completed, else `ExecutionFailed`."""
        if not self.completed:
            raise ExecutionFailed(self)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of user code, ended or not, as the history tells it."""

    id: str
    sandbox_id: str
    user_id: str
    number: int
    kind: str
    """`execute`, `quick_execute`, `analyze_data`, `debug` or `debug_session`."""
    status: Status
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    code: str = ""
    """Empty in lists."""
    result: ExecutionResult | None = None
    """None before the end."""
    query_count: int = 0
    trace_step_count: int = 0
    last_sequence: int = 0
