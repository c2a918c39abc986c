"""What host and guest say to each other. Everything from a guest is hostile until decoded strictly."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from sandboxd.channel.debug import DebugCommand, DebugReport, DebugSettings
from sandboxd.channel.values import SmallCount, Value


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every message: a tagged map without unknown fields."""


# --- host to guest -----------------------------------------------------------------------------


class LanguageRules(_Message, frozen=True):
    """Guidance for user frames; the kernel holds whether or not they are on."""

    restricted: bool
    allowed_modules: list[str]
    """Module names user code may import; a name allows its submodules."""
    blocked_modules: list[str]
    """Names refused although a parent is allowed or nothing else is said, for a better message."""
    blocked_builtins: list[str]


class Configure(_Message, frozen=True, tag="configure"):
    """The first message to a guest: what holds for all executions of its sandbox."""

    rules: LanguageRules
    enable_debugging: bool
    result_bytes: int
    log_bytes: int
    databases: list[str] = []
    """Names of the databases granted; empty means that none is configured."""


class Input(_Message, frozen=True):
    """A variable bound before the run."""

    name: str
    format: Literal["json", "csv"]
    payload: str
    """JSON text becomes plain Python objects, CSV text a DataFrame."""


class Run(_Message, frozen=True, tag="run"):
    """Run `source` in the sandbox's namespace."""

    run_id: int
    source: str
    label: str
    """The file name that tracebacks show, e.g. `<execution 3>`."""
    capture_frames: bool = False
    inputs: list[Input] = []
    debug: DebugSettings | None = None
    """How it is traced; None runs it untraced."""


class Inspect(_Message, frozen=True, tag="inspect"):
    """Report the namespace's variables."""

    request_id: int
    variable_limit: int = 200


class CallReply(_Message, frozen=True, tag="call_reply"):
    """The host's answer to a `Call`: either a payload or an error."""

    call_id: int
    payload: bytes = b""
    """msgpack of the answer; its shape belongs to the method."""
    error_reason: str = ""
    """Machine-readable reason; empty on success."""
    error_message: str = ""
    error_hint: str = ""


class Fork(_Message, frozen=True, tag="fork"):
    """Make a copy of this process that waits for messages of its own. Three descriptors come along: the
    copy's channel, stdout and stderr. Only a guest with a single thread is asked, while it is idle or stopped
    in a debug run."""

    fork_id: int


class Restore(_Message, frozen=True, tag="restore"):
    """Make the workspace what it was when this copy was made; the copy is a session from now on."""

    request_id: int
    directory: str = ""
    """Where its files are from now on; empty keeps the directory it was copied with."""


class RemoveFiles(_Message, frozen=True, tag="remove_files"):
    """Remove the directory of a branch that has ended; nothing is answered."""

    directory: str


HostMessage: TypeAlias = Configure | Run | Inspect | CallReply | Fork | Restore | RemoveFiles | DebugCommand

# --- guest to host -----------------------------------------------------------------------------


class Ready(_Message, frozen=True, tag="ready"):
    """The guest is locked down and waits; carries the fork gate's listener where there is one."""

    fork_gate: bool


class SetupFailed(_Message, frozen=True, tag="setup_failed"):
    """A set-up step failed: no user code ran, the guest exits."""

    step: str
    problem: str


class LogEntry(_Message, frozen=True, tag="log"):
    """One line of the debug log."""

    run_id: int
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    message: str
    time_ns: int
    """Wall-clock time, nanoseconds since the epoch."""
    line: int
    """1-based line of the user's text that logged, 0 when unknown."""
    truncated: bool = False


class VariableReport(_Message, frozen=True):
    """A variable: a summary anyone can read and, where cheap, its typed value."""

    name: str
    type_name: str
    summary: str
    truncated: bool
    value: Value | None = None


class Inspected(_Message, frozen=True, tag="inspected"):
    """A variable that user code asked to be recorded."""

    run_id: int
    variable: VariableReport
    time_ns: int
    line: int


class LogDropped(_Message, frozen=True, tag="log_dropped"):
    """The log cap was reached; sent once with the run's first dropped entry."""

    run_id: int


class Violation(_Message, frozen=True):
    """A place where user code breaks a language rule."""

    rule: str
    message: str
    line: int
    column: int
    """1-based."""
    alternative: str


class FrameReport(_Message, frozen=True):
    """One call level of a failure, innermost last."""

    function: str
    label: str
    line: int
    source_line: str
    in_user_code: bool
    variables: list[VariableReport] = []


class FailureReport(_Message, frozen=True):
    """Why user code ended without a result."""

    kind: Literal["exception", "syntax_error", "policy_violation", "interrupted", "memory_error"]
    type_name: str
    message: str
    traceback: str
    frames: list[FrameReport] = []
    violations: list[Violation] = []


class Finished(_Message, frozen=True, tag="finished"):
    """The end of a run; exactly one of `value` and `failure` is set unless the run had no value."""

    run_id: int
    value: Value | None = None
    failure: FailureReport | None = None
    value_truncated: bool = False
    cancelled_tasks: SmallCount = 0
    """asyncio tasks left pending and cancelled at the end of the run."""
    live_threads: SmallCount = 0
    """Threads beside the main thread that still run."""
    dropped_log_entries: SmallCount = 0


class StateReport(_Message, frozen=True, tag="state"):
    """The answer to `Inspect`."""

    request_id: int
    variables: list[VariableReport]
    total_count: SmallCount
    live_threads: SmallCount


class Call(_Message, frozen=True, tag="call"):
    """User code asks the host for something only the host may do, such as a query."""

    run_id: int
    call_id: int
    method: str
    payload: bytes
    line: int = 0


class Copied(_Message, frozen=True, tag="copied"):
    """The first word of a copy, on its own channel: it is complete and waits."""

    fork_id: int
    file_bytes: int = 0
    """Size of the workspace files that it holds in memory."""


class ForkFailed(_Message, frozen=True, tag="fork_failed"):
    """There is no copy: said by the guest when it could not fork, by the copy when it gave up."""

    fork_id: int
    problem: str
    too_large: bool = False
    """It was the size of the workspace or a lack of memory."""


class Restored(_Message, frozen=True, tag="restored"):
    """The workspace is what it was; `problem` says what could not be put back."""

    request_id: int
    problem: str = ""


GuestMessage: TypeAlias = (
    Ready
    | SetupFailed
    | LogEntry
    | Inspected
    | LogDropped
    | Finished
    | StateReport
    | Call
    | Copied
    | ForkFailed
    | Restored
    | DebugReport
)


def values_in(message: GuestMessage) -> Iterator[Value | None]:
    """Every typed value that a guest's message carries."""
    match message:
        case Finished(value=value, failure=failure):
            yield value
            if failure is not None:
                yield from (variable.value for frame in failure.frames for variable in frame.variables)
        case Inspected():
            yield message.variable.value
        case StateReport():
            yield from (variable.value for variable in message.variables)
