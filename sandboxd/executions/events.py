"""The events of one execution: a bounded list that any number of readers follow at their own pace.

Readers hold a position, not a buffer, so a slow one costs nothing and can't lose its place; what is too
much for the list is left out once, marked, and still counted in the result.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sandboxd.channel.messages import Inspected, LogEntry
from sandboxd.supervisor.guest_exit import OutputStream

_EVENT_COST_BYTES = 64
_MERGE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """It waits for its turn; `position` executions are ahead."""

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """User code runs as execution `number` of its sandbox."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputWritten:
    """Bytes appeared on a stream at `offset`."""

    stream: OutputStream
    data: bytes
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What the list had no room for, in all so far."""

    stdout_bytes: int
    stderr_bytes: int
    log_entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotKept:
    """Stands for all events of an execution of before a restart, but the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last event; the result is in the execution."""


EventBody = Queued | Started | OutputWritten | LogEntry | Inspected | Dropped | NotKept | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; sequences count from 1 without gaps."""

    sequence: int
    time_ns: int
    body: EventBody


def past_events(*, after_sequence: int, time_ns: int) -> tuple[Event, Event]:
    """What is left of the events of an execution of before a restart; their count is no longer known."""
    return (
        Event(sequence=after_sequence + 1, time_ns=time_ns, body=NotKept()),
        Event(sequence=after_sequence + 2, time_ns=time_ns, body=Ended()),
    )


class EventLog:
    """Append-only, bounded by `budget_bytes` of output and log; always ends with `Ended`."""

    def __init__(self, *, budget_bytes: int) -> None:
        self._events: list[Event] = []
        self._budget = self._room = budget_bytes
        self._taken = 0
        """Highest sequence any reader has; later events may still be merged."""
        self._changed: asyncio.Event = asyncio.Event()
        self._written: dict[OutputStream, int] = {"stdout": 0, "stderr": 0}
        self._left_out: dict[str, int] = {"stdout": 0, "stderr": 0, "log": 0}
        self.ended = False

    @property
    def last_sequence(self) -> int:
        """Sequence of the last event; 0 before the first."""
        return len(self._events)

    @property
    def kept_bytes(self) -> int:
        """What the events take, roughly."""
        return self._budget - self._room

    def add(self, body: Queued | Started) -> None:
        """An event that is always kept."""
        self._append(body)

    def add_output(self, stream: OutputStream, data: bytes) -> None:
        """Bytes of a stream; merged with the event before when nobody has seen that one yet."""
        offset = self._written[stream]
        self._written[stream] += len(data)
        if self._left_out[stream] or self._room < len(data):
            self._left_out[stream] += len(data)
            return
        self._room -= len(data)
        last = self._events[-1] if self._events else None
        if (
            last
            and isinstance(last.body, OutputWritten)
            and last.body.stream == stream
            and last.sequence > self._taken
            and len(last.body.data) < _MERGE_BYTES
        ):
            merged = OutputWritten(stream=stream, data=last.body.data + data, offset=last.body.offset)
            self._events[-1] = Event(sequence=last.sequence, time_ns=last.time_ns, body=merged)
            return
        self._room -= _EVENT_COST_BYTES
        self._append(OutputWritten(stream=stream, data=data, offset=offset))

    def add_log(self, body: LogEntry | Inspected, *, size: int) -> None:
        """An entry of the debug log or an inspected variable."""
        if self._room < size:
            self._left_out["log"] += 1
            return
        self._room -= size
        self._append(body)

    def end(self) -> None:
        """The last event, after the marker of what was left out."""
        if self.ended:
            return
        if any(self._left_out.values()):
            self._append(
                Dropped(
                    stdout_bytes=self._left_out["stdout"],
                    stderr_bytes=self._left_out["stderr"],
                    log_entries=self._left_out["log"],
                )
            )
        self.ended = True
        self._append(Ended())

    async def follow(self, *, after_sequence: int = 0) -> AsyncIterator[Event]:
        """Every event after `after_sequence`, then the new ones until `Ended`."""
        position = after_sequence
        while True:
            while position < len(self._events):
                event = self._events[position]
                position += 1
                self._taken = max(self._taken, position)
                yield event
            if self.ended:
                return
            await self._changed.wait()

    def _append(self, body: EventBody) -> None:
        self._events.append(Event(sequence=len(self._events) + 1, time_ns=time.time_ns(), body=body))
        self._changed.set()
        self._changed = asyncio.Event()
