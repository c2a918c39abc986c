"""The host's side of a debug run: what the guest reports, in order and bounded, and the commands to it.

Steps are the guest's bytes. They are counted and capped here, and never parsed.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from sandboxd.channel.debug import (
    CommandDone,
    DebugCommand,
    DebugEnded,
    DebugLogpoint,
    DebugReport,
    DebugStarted,
    DebugSteps,
    DebugStopped,
    EvaluateInFrame,
)
from sandboxd.channel.framing import ChannelBroken
from sandboxd.channel.messages import GuestMessage, Inspected, LogEntry
from sandboxd.executions.debug_items import FeedEnded, FeedItem, Wrote, held_bytes
from sandboxd.executions.events import EventLog
from sandboxd.limits import MIB
from sandboxd.supervisor.guest_exit import OutputStream

_FULL_BYTES = 8 * MIB
"""Unread steps at which the guest has to wait for the reader."""
_GO_ON_BYTES = 2 * MIB
_MOST_UNREAD_BYTES = 64 * MIB
"""Of output and log. Reached only where the guest does not wait: by what it prints, and after it has waited
too long."""
_LONGEST_WAITS_SECONDS = 30.0
_MAX_STREAMED_BYTES = 2048 * MIB
_MAX_SUMMARY_BYTES = 64 * 1024
_CANCELLED = "cancelled"
"""`run.CANCEL`, which imports this module."""


class RunControl(Protocol):
    """What the feed needs of the run."""

    def hold_clock(self) -> None:
        """The time limit stands still."""

    def release_clock(self) -> None:
        """It goes on."""

    def hold_guest(self) -> None:
        """Nothing more is read from the guest; it blocks once its channel is full."""

    def release_guest(self) -> None:
        """The guest is read again."""

    def command(self, command: DebugCommand, *, wake: bool) -> None:
        """Sends a command; with `wake`, a running program looks for it."""

    async def evaluate_in_copy(self, command: EvaluateInFrame) -> CommandDone:
        """The answer of a copy of the stopped guest."""

    def stop(self, reason: str) -> None:
        """Ends the run."""


class DebugFeed:
    """Everything that one debug run reports, for one reader."""

    def __init__(self, *, pause_seconds: float) -> None:
        self.summary = b""
        """`DebugSummary` bytes; empty when the guest did not live to send it."""
        self.left_out_steps = 0
        """Steps not streamed because the reader was too slow."""
        self.left_out_entries = 0
        """Pieces of output, log entries and logpoints not streamed, for the same reason."""
        self.streamed_steps = 0
        self.stopped = False
        """The program is held at a stop."""
        self.paused_seconds = 0.0
        self.pause_expired = False
        self._pause_seconds = pause_seconds
        self._items: deque[tuple[FeedItem, int]] = deque()
        self._unread_bytes = 0
        self._streamed_bytes = 0
        self._changed = asyncio.Event()
        self._run: RunControl | None = None
        self._waiting_since = 0.0
        self._waited_seconds = 0.0
        self._stopped_since = 0.0
        self._pause_timer: asyncio.TimerHandle | None = None
        self._written: dict[OutputStream, int] = {"stdout": 0, "stderr": 0}
        self._ended = False
        self._abandoned = False
        self._evaluation: tuple[int, asyncio.Future[bool]] | None = None
        """The one that the guest was asked for last: whether it wants a copy to answer."""

    def attach(self, run: RunControl) -> None:
        """The run starts."""
        self._run = run

    # --- what the guest says ---------------------------------------------------------------------

    def take(self, message: DebugReport) -> None:
        """A report of the guest; hostile like all it says."""
        match message:
            case DebugSteps():
                self._take_steps(message)
            case DebugStopped():
                self._stop(message)
            case DebugEnded(summary=summary):
                self.summary = summary[:_MAX_SUMMARY_BYTES]
            case CommandDone():
                self._take_answer(message)
            case DebugLogpoint():
                self._put_if_room(message)
            case DebugStarted():
                self._put_or_break(message)

    def wrote(self, stream: OutputStream, data: bytes) -> None:
        """Output of user code. What is left out shows as a gap before the next offset."""
        offset = self._written[stream]
        self._written[stream] += len(data)
        self._put_if_room(Wrote(stream=stream, data=data, offset=offset))

    def logged(self, entry: LogEntry | Inspected) -> None:
        """An entry of the debug log."""
        self._put_if_room(entry)

    def end(self) -> None:
        """The result is in place."""
        self._ended = True
        if self._evaluation is not None and not self._evaluation[1].done():
            self._evaluation[1].set_result(False)
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        self._put(FeedEnded())
        self._run = None

    def _take_answer(self, message: CommandDone) -> None:
        wants_copy = message.kind == "copy_wanted"
        waiting = self._evaluation
        if waiting is not None and message.command_id == waiting[0] and not waiting[1].done():
            waiting[1].set_result(wants_copy)
        if not wants_copy:
            self._put_or_break(message)

    def _take_steps(self, message: DebugSteps) -> None:
        size = sum(map(len, message.payloads))
        self._streamed_bytes += size
        gave_up = self._waited_seconds > _LONGEST_WAITS_SECONDS and self._unread_bytes > _FULL_BYTES
        if gave_up or self._streamed_bytes > _MAX_STREAMED_BYTES:
            self.left_out_steps += message.step_count
            return
        self.streamed_steps += message.step_count
        self._put(message)

    def _stop(self, message: DebugStopped) -> None:
        if not self.stopped:
            self.stopped = True
            self._stopped_since = time.perf_counter()
            if self._run is not None:
                self._run.hold_clock()
            left = self._pause_seconds
            self._pause_timer = asyncio.get_running_loop().call_later(left, self._expire)
        self._put_or_break(message)

    def _expire(self) -> None:
        self.pause_expired = True
        if self._run is not None:
            self._run.stop(_CANCELLED)

    def _put_if_room(self, item: FeedItem) -> None:
        if self._unread_bytes <= _MOST_UNREAD_BYTES:
            self._put(item)
        else:
            self.left_out_entries += 1

    def _put_or_break(self, item: FeedItem) -> None:
        """For answers and stops, of which an honest guest has few."""
        if self._unread_bytes > _MOST_UNREAD_BYTES:
            raise ChannelBroken(f"{type(item).__name__} beyond what is read")
        self._put(item)

    def _put(self, item: FeedItem) -> None:
        if self._abandoned:
            return
        size = held_bytes(item)
        self._items.append((item, size))
        self._unread_bytes += size
        if self._unread_bytes > _FULL_BYTES:
            self._hold_up()
        self._changed.set()

    def _hold_up(self) -> None:
        """Lets the guest wait for the reader, as long as it has not waited too long already."""
        patient = self._waited_seconds <= _LONGEST_WAITS_SECONDS and not self._ended
        if patient and not self._waiting_since and self._run is not None:
            self._waiting_since = time.perf_counter()
            self._run.hold_guest()
            self._run.hold_clock()

    # --- the reader ------------------------------------------------------------------------------

    async def follow(self) -> AsyncIterator[FeedItem]:
        """Everything in order, `FeedEnded` last."""
        while True:
            while not self._items:
                self._changed.clear()
                await self._changed.wait()
            item, size = self._items.popleft()
            self._unread_bytes -= size
            if self._waiting_since and self._unread_bytes < _GO_ON_BYTES:
                self._go_on()
            yield item
            if isinstance(item, FeedEnded):
                return

    def _go_on(self) -> None:
        waited = time.perf_counter() - self._waiting_since
        self._waiting_since = 0.0
        self._waited_seconds += waited
        self.paused_seconds += waited
        if self._run is not None:
            self._run.release_guest()
            self._run.release_clock()

    # --- commands --------------------------------------------------------------------------------

    def send(self, command: DebugCommand, *, resumes: bool = False) -> None:
        """Sends a command to the guest; `resumes` says that the program goes on with it."""
        if self._run is None or self._ended:
            return
        wake = not self.stopped
        if resumes and self.stopped:
            self.stopped = False
            self.paused_seconds += time.perf_counter() - self._stopped_since
            if self._pause_timer is not None:
                self._pause_timer.cancel()
                self._pause_timer = None
            self._run.release_clock()
        self._run.command(command, wake=wake)

    async def evaluate(self, command: EvaluateInFrame) -> None:
        """Has an expression evaluated. At a stop returns when it was: what is sent next finds the program
        there as before."""
        if self._run is None or not self.stopped or self._ended:
            self.send(command)
            return
        asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._evaluation = (command.command_id, asked)
        self.send(command)
        if await asked and not self._ended:
            answer = await self._run.evaluate_in_copy(command)
            self._put(answer)

    def abandon(self) -> None:
        """Nobody reads any more: nothing is kept and the guest need not wait."""
        self._abandoned = True
        self._items.clear()
        self._unread_bytes = 0
        if self._waiting_since:
            self._go_on()


class FeedingEvents(EventLog):
    """The events of a debug run, also told to its feed."""

    def __init__(self, feed: DebugFeed, *, budget_bytes: int) -> None:
        super().__init__(budget_bytes=budget_bytes)
        self._feed = feed

    def add_output(self, stream: OutputStream, data: bytes) -> None:
        """Bytes of a stream."""
        super().add_output(stream, data)
        self._feed.wrote(stream, data)

    def add_log(self, body: LogEntry | Inspected, *, size: int) -> None:
        """An entry of the debug log."""
        super().add_log(body, size=size)
        self._feed.logged(body)

    def end(self) -> None:
        """The last event."""
        if not self.ended:
            super().end()
            self._feed.end()


DEBUG_REPORTS = (DebugStarted, DebugSteps, DebugStopped, DebugLogpoint, CommandDone, DebugEnded)


def is_debug_report(message: GuestMessage) -> bool:
    """Whether a message is for the feed."""
    return isinstance(message, DEBUG_REPORTS)
