"""Events of a streamed execution."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sandboxd_api.v1 import execution_event_pb2

from sandboxd_client import from_wire
from sandboxd_client.results import ExecutionResult, InspectedVariable, LogEntry
from sandboxd_client.text import Decoders


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    sequence: int
    """Counted from 1 within the execution; what `watch` takes as `after_sequence`."""
    execution_id: str
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued(_Event):
    """It waits for its turn."""

    position: int
    """Executions of the sandbox before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(_Event):
    """User code starts."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdout(_Event):
    """User code wrote to stdout."""

    data: bytes
    text: str
    """As text; a character cut between two chunks comes whole with the second."""
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stderr(_Event):
    """User code wrote to stderr."""

    data: bytes
    text: str
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged(_Event):
    """User code called `debug`."""

    entry: LogEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected(_Event):
    """User code called `inspect_var`."""

    inspected: InspectedVariable


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(_Event):
    """Events that are not sent."""

    stdout_bytes: int = 0
    stderr_bytes: int = 0
    log_entry_count: int = 0
    reason: str = ""
    """`slow_reader`, `limit` or `not_kept`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(_Event):
    """The execution ended; always the last event."""

    result: ExecutionResult


Event: TypeAlias = Queued | Started | Stdout | Stderr | Logged | Inspected | Dropped | Finished


def event_of(found: execution_event_pb2.ExecutionEvent, decoders: Decoders) -> Event | None:
    """The event, or None for a kind this client does not know."""
    base: dict[str, Any] = {
        "sequence": found.sequence,
        "execution_id": found.execution_id,
        "time": from_wire.moment(found.time),
    }
    match found.WhichOneof("event"):
        case "stdout":
            chunk = found.stdout
            text = decoders.decode("stdout", chunk.data)
            return Stdout(**base, data=chunk.data, text=text, offset=chunk.offset)
        case "stderr":
            chunk = found.stderr
            text = decoders.decode("stderr", chunk.data)
            return Stderr(**base, data=chunk.data, text=text, offset=chunk.offset)
        case "log_entry":
            return Logged(**base, entry=from_wire.log_entry(found.log_entry))
        case "inspected_variable":
            return Inspected(**base, inspected=from_wire.inspected(found.inspected_variable))
        case _:
            return _stage(found, base)


def _stage(found: execution_event_pb2.ExecutionEvent, base: dict[str, Any]) -> Event | None:
    """An event that is not something user code did."""
    match found.WhichOneof("event"):
        case "queued":
            return Queued(**base, position=found.queued.position)
        case "started":
            return Started(**base, number=found.started.number)
        case "finished":
            return Finished(**base, result=from_wire.result_of(found.finished.execution))
        case "dropped":
            dropped = found.dropped
            return Dropped(
                **base,
                stdout_bytes=dropped.stdout_dropped_bytes,
                stderr_bytes=dropped.stderr_dropped_bytes,
                log_entry_count=dropped.dropped_log_entry_count,
                reason=from_wire.word(execution_event_pb2.EventsDropped.Reason, dropped.reason, "REASON_"),
            )
        case _:
            return None
