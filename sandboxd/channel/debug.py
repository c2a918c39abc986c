"""What host and guest say to each other about debug runs. Steps and answers are finished protobuf bytes."""

from typing import Literal, TypeAlias

import msgspec

from sandboxd.channel.values import SmallCount


class _DebugMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every message: a tagged map without unknown fields."""


class Breakpoint(_DebugMessage, frozen=True):
    """A place where to stop, or to log when `log_message` is set."""

    line: int
    condition: str = ""
    hit_count: int = 1
    """Stops from this hit on."""
    log_message: str = ""


ExceptionStops = Literal["never", "uncaught", "raised"]


class DebugSettings(_DebugMessage, frozen=True):
    """How a run is traced; mirrors `DebugOptions` with every default filled in."""

    detail: Literal["full", "delta", "lines", "summary"] = "delta"
    by_line: bool = False
    functions: list[str] = []
    line_ranges: list[tuple[int, int]] = []
    names: list[str] = []
    events: list[int] = []
    every_nth: int = 1
    max_steps: int = 1_000_000
    max_depth: int = 0
    max_string: int = 80
    max_items: int = 10
    max_nesting: int = 3
    max_nodes: int = 64
    max_variables: int = 200
    batch_steps: int = 1024
    flush_interval_ms: int = 50
    trace_bytes: int = 16 * 1024 * 1024
    stream_steps: bool = True
    record_trace: bool = True
    interactive: bool = False
    breakpoints: list[Breakpoint] = []
    exception_stops: ExceptionStops = "never"
    stop_at_entry: bool = False


# --- host to guest, while a run is stopped -----------------------------------------------------


class SetBreakpoints(_DebugMessage, frozen=True, tag="set_breakpoints"):
    """Replaces the breakpoints."""

    command_id: int
    breakpoints: list[Breakpoint]
    exception_stops: ExceptionStops | None = None


ResumeMode = Literal["continue", "over", "into", "out", "to_line", "back", "reverse"]


class ResumeRun(_DebugMessage, frozen=True, tag="resume"):
    """Lets a stopped run go on."""

    command_id: int
    mode: ResumeMode
    line: int = 0


class EvaluateInFrame(_DebugMessage, frozen=True, tag="evaluate"):
    """Evaluates an expression in a frame: without side effects in a copy of the guest, for which it asks."""

    command_id: int
    expression: str
    frame: int = 0
    allow_side_effects: bool = False
    timeout_ms: int = 1000


class SetVariable(_DebugMessage, frozen=True, tag="set_variable"):
    """Binds a variable in a frame."""

    command_id: int
    name: str
    expression: str
    frame: int = 0


class PauseRun(_DebugMessage, frozen=True, tag="pause"):
    """Stops a running program at its next line; sent with SIGUSR1, which makes the guest look."""

    command_id: int


class DetachRun(_DebugMessage, frozen=True, tag="detach"):
    """Lets the run go on without stops."""

    command_id: int


class StateAtStep(_DebugMessage, frozen=True, tag="state_at_step"):
    """The full state at a step."""

    step: int


class WhenChanged(_DebugMessage, frozen=True, tag="when_changed"):
    """When a variable changed."""

    name: str
    function: str = ""
    from_step: int = 1
    to_step: int = 0


class FirstWhere(_DebugMessage, frozen=True, tag="first_where"):
    """The first step where an expression over recorded values is true."""

    expression: str
    from_step: int = 1
    function: str = ""


class LastWrite(_DebugMessage, frozen=True, tag="last_write"):
    """The last change of a variable before a step."""

    name: str
    before_step: int = 0
    function: str = ""


class Calls(_DebugMessage, frozen=True, tag="calls"):
    """Calls of a function."""

    function: str


class LinesNotReached(_DebugMessage, frozen=True, tag="lines_not_reached"):
    """Lines that were never reached."""


class LoopPasses(_DebugMessage, frozen=True, tag="loop"):
    """The first and last passes of a loop."""

    line: int
    pass_count: int = 5


class TraceText(_DebugMessage, frozen=True, tag="text"):
    """The trace as text."""

    from_step: int = 1
    to_step: int = 0
    with_source: bool = False


class FailureText(_DebugMessage, frozen=True, tag="failure"):
    """What led to the failure."""

    change_count: int = 3


TraceQuestion: TypeAlias = (
    StateAtStep
    | WhenChanged
    | FirstWhere
    | LastWrite
    | Calls
    | LinesNotReached
    | LoopPasses
    | TraceText
    | FailureText
)


class QueryTrace(_DebugMessage, frozen=True, tag="query_trace"):
    """Asks about the trace of the run with `run_id`, or of the one that is stopped."""

    command_id: int
    run_id: int
    question: TraceQuestion
    max_entries: int = 100
    max_characters: int = 1600


# --- guest to host -----------------------------------------------------------------------------


class DebugStarted(_DebugMessage, frozen=True, tag="debug_started"):
    """The run is about to start."""

    run_id: int
    executable_lines: list[int]
    engine: str


class DebugSteps(_DebugMessage, frozen=True, tag="debug_steps"):
    """Steps: one `DebugBatch`, or one `FullStep` each when `full`."""

    run_id: int
    payloads: list[bytes]
    step_count: SmallCount
    full: bool = False


class DebugStopped(_DebugMessage, frozen=True, tag="debug_stopped"):
    """The run has stopped: `Stopped` bytes without what only the host knows."""

    run_id: int
    payload: bytes
    reason: int
    stdout_bytes: int = 0
    """Bytes the run has written to stdout so far."""


class DebugLogpoint(_DebugMessage, frozen=True, tag="debug_logpoint"):
    """A breakpoint with a log message was passed."""

    run_id: int
    line: int
    message: str
    time_ns: int


class CommandDone(_DebugMessage, frozen=True, tag="command_done"):
    """The answer to a command: bytes of the message that `kind` names, or a refusal."""

    command_id: int
    kind: Literal[
        "breakpoints_set", "evaluated", "variable_set", "trace_answer", "copy_wanted", "refused", "done"
    ]
    payload: bytes = b""
    reason: str = ""
    message: str = ""


class DebugEnded(_DebugMessage, frozen=True, tag="debug_ended"):
    """What was recorded: `DebugSummary` bytes. Sent right before `Finished`."""

    run_id: int
    summary: bytes


DebugCommand: TypeAlias = (
    SetBreakpoints | ResumeRun | EvaluateInFrame | SetVariable | PauseRun | DetachRun | QueryTrace
)
DebugReport: TypeAlias = DebugStarted | DebugSteps | DebugStopped | DebugLogpoint | CommandDone | DebugEnded
