"""What a debug run reports, item by item, and what each one holds of the host's memory."""

from dataclasses import dataclass
from typing import TypeAlias

from sandboxd.channel.debug import CommandDone, DebugLogpoint, DebugStarted, DebugSteps, DebugStopped
from sandboxd.channel.messages import Inspected, LogEntry
from sandboxd.supervisor.guest_exit import OutputStream

_ITEM_BYTES = 64
_PART_BYTES = 40
"""Of a bytes object or an integer, whatever it holds."""
_WIDEST_CHARACTER_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrote:
    """Bytes on a stream at `offset`."""

    stream: OutputStream
    data: bytes
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEnded:
    """The execution is over; its result is in place."""


FeedItem: TypeAlias = (
    DebugStarted
    | DebugSteps
    | DebugStopped
    | DebugLogpoint
    | CommandDone
    | Wrote
    | LogEntry
    | Inspected
    | FeedEnded
)


def held_bytes(item: FeedItem) -> int:
    """Memory that `item` takes; of an inspected variable, which the log's limit bounds, only its own part."""
    return _ITEM_BYTES + _content_bytes(item)


def _content_bytes(item: FeedItem) -> int:
    match item:
        case DebugSteps(payloads=payloads):
            return sum(map(len, payloads)) + _PART_BYTES * len(payloads)
        case DebugStarted(executable_lines=lines, engine=engine):
            return _PART_BYTES * len(lines) + text_bytes(engine)
        case CommandDone(payload=payload, reason=reason, message=message):
            return len(payload) + text_bytes(reason) + text_bytes(message)
        case DebugStopped(payload=payload):
            return len(payload)
        case DebugLogpoint(message=message) | LogEntry(message=message):
            return text_bytes(message)
        case Wrote(data=data):
            return len(data)
    return 0


def text_bytes(text: str) -> int:
    """Memory of a text, or more."""
    return len(text) if text.isascii() else _WIDEST_CHARACTER_BYTES * len(text)
