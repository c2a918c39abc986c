"""One run in one guest: takes what the guest says, holds it to its limits, tells how it ended."""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol, cast

import msgspec

from sandboxd.channel.debug import CommandDone, DebugCommand, DebugReport, EvaluateInFrame
from sandboxd.channel.framing import ChannelBroken, EncodedMessage
from sandboxd.channel.messages import (
    Call,
    CallReply,
    Finished,
    GuestMessage,
    Inspected,
    LogDropped,
    LogEntry,
    Run,
)
from sandboxd.errors import CopyFailed
from sandboxd.executions.clock import RunClock
from sandboxd.executions.debug_feed import DebugFeed, is_debug_report
from sandboxd.executions.debug_items import text_bytes
from sandboxd.executions.escalation import Escalation
from sandboxd.executions.evaluation import evaluate_in, no_answer
from sandboxd.executions.events import EventLog
from sandboxd.executions.output import HeadAndTail
from sandboxd.limits import MIB, Limits
from sandboxd.supervisor import pidfds
from sandboxd.supervisor.guest_exit import GuestExit, GuestSink, OutputStream
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.usage import UsageMeter

_FLOOD_FACTOR = 64
_FLOOD_BYTES = 64 * MIB
"""Output read and thrown away beyond this ends the run: reading it costs the host half a core."""
_MAX_STRAY_MESSAGES = 64
_MAX_OPEN_CALLS = 16
_MAX_CALLS = 100_000
_LOG_ENTRY_COST_BYTES = 64
_LOG_FLOOD_FACTOR = 32
"""Log bytes beyond the limit, in limits, that end the guest: one that keeps to its own cap, which counts
in a coarser way, stays far below; reading more would cost the host and nobody would see it."""

TIME_OUT = "time out"
CANCEL = "cancelled"
OUTPUT_FLOOD = "output flood"


class Copier(Protocol):
    """Copies a guest that is stopped in a run."""

    async def __call__(self, guest: GuestProcess, sink: GuestSink) -> GuestProcess:
        """The copy, which is the caller's to kill; meanwhile `sink` takes what the guest itself says.
        `CopyFailed` says why there is none."""


class CallHandler(Protocol):
    """Does for user code what only the host may do, such as a query."""

    async def __call__(self, call: Call) -> CallReply | EncodedMessage:
        """The answer; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What is known after a run: either the guest's own last word or its death, and why it was stopped."""

    finished: Finished | None
    exit: GuestExit | None
    stopped_for: str
    """TIME_OUT, CANCEL, OUTPUT_FLOOD, or empty."""
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    refused_forks: int


class GuestRun:
    """The sink of a guest while it runs one execution. The limits here are the host's: a guest that
    keeps to its own never meets them."""

    def __init__(
        self,
        *,
        guest: GuestProcess,
        run: Run,
        limits: Limits,
        timeout_seconds: float,
        events: EventLog,
        call: CallHandler,
        feed: DebugFeed | None = None,
        copy: Copier | None = None,
    ) -> None:
        self._guest = guest
        self._run = run
        self.limits = limits
        self._events = events
        self._call = call
        self._feed = feed
        self._copy = copy
        self._clock = RunClock(timeout_seconds, lambda: self.stop(TIME_OUT), spent=self._cpu_seconds)
        self._escalation = Escalation(guest)
        self._finished: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        self._stopped_for = ""
        self._stray = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._call_count = 0
        self._log_room = limits.log_bytes
        self._log_excess = 0
        self._flood_bytes = max(_FLOOD_BYTES, _FLOOD_FACTOR * limits.output_bytes)
        self.outputs: dict[OutputStream, HeadAndTail] = {
            "stdout": HeadAndTail(limit=limits.output_bytes),
            "stderr": HeadAndTail(limit=limits.output_bytes),
        }
        self.log_entries: list[LogEntry] = []
        self.inspected: list[Inspected] = []
        self.dropped_log_entries = 0

    # --- the run ---------------------------------------------------------------------------------

    async def execute(self) -> RunOutcome:
        """Sends the run and waits for its end, which the time limit and the kill make certain."""
        guest = self._guest
        meter = UsageMeter(guest)
        refused_before = guest.gate.refused_count if guest.gate else 0
        guest.drain_output()  # what threads wrote between executions belongs to none
        guest.listen(self)
        started = time.perf_counter()
        self._clock.start()
        if self._feed is not None:
            self._feed.attach(self)
        try:
            guest.send(self._run)
            await guest.until(self._finished)
            wall = time.perf_counter() - started
            guest.drain_output()
        except asyncio.CancelledError:
            guest.kill(CANCEL)
            raise
        finally:
            self._clock.end()
            self._escalation.finish()
            guest.listen(None)
            for task in self._calls:
                task.cancel()
        cpu, peak = meter.read()
        return RunOutcome(
            finished=self._finished.result() if self._finished.done() else None,
            exit=guest.exited.result() if guest.exited.done() else None,
            stopped_for=self._stopped_for,
            wall_seconds=wall,
            cpu_seconds=cpu,
            peak_memory_bytes=peak,
            refused_forks=(guest.gate.refused_count if guest.gate else 0) - refused_before,
        )

    def stop(self, reason: str) -> None:
        """Ends the run from outside, politely first. The first reason counts."""
        if not self._finished.done():
            self._stopped_for = self._stopped_for or reason
            self._escalation.start(reason)

    def _cpu_seconds(self) -> float:
        return pidfds.cpu_nanos(self._guest.pid) / 1e9 if self._guest.alive else 0.0

    # --- what a debug session asks for -----------------------------------------------------------

    def hold_clock(self) -> None:
        """The time limit stands still."""
        self._clock.hold()

    def release_clock(self) -> None:
        """It goes on, once for each hold."""
        self._clock.release()

    def hold_guest(self) -> None:
        """Nothing more is read of the guest's messages."""
        self._guest.pause_channel()

    def release_guest(self) -> None:
        """They are read again."""
        self._guest.resume_channel()

    def command(self, command: DebugCommand, *, wake: bool) -> None:
        """Sends a command of a debug session; with `wake`, a signal makes a running program look."""
        if not self._finished.done():
            self._guest.send(command)
            if wake:
                self._guest.wake()

    async def evaluate_in_copy(self, command: EvaluateInFrame) -> CommandDone:
        """The answer of a copy of the stopped guest, or why there is none."""
        try:
            if self._copy is None:
                raise CopyFailed(problem="it cannot be copied")
            copy = await self._copy(self._guest, self)
        except CopyFailed as error:
            hint = "allow side effects to evaluate in the program itself"
            return no_answer(command.command_id, "NO_COPY", f"{error.problem}; {hint}")
        return await evaluate_in(copy, command)

    @property
    def remaining_seconds(self) -> float:
        """What is left of the time limit."""
        return self._clock.remaining_seconds

    # --- what the guest says: all of it hostile --------------------------------------------------

    def output(self, stream: OutputStream, data: bytes) -> None:
        kept = self.outputs[stream]
        kept.add(data)
        self._events.add_output(stream, data)
        if kept.total_bytes > self._flood_bytes and not self._stopped_for:
            self._stopped_for = OUTPUT_FLOOD
            self._guest.kill(OUTPUT_FLOOD)

    def message(self, message: GuestMessage) -> None:
        if self._feed is not None and is_debug_report(message) and self._is_mine(message):
            self._feed.take(cast("DebugReport", message))
            return
        if getattr(message, "run_id", None) != self._run.run_id or self._finished.done():
            self._count_stray(message)
            return
        match message:
            case LogEntry():
                size = _LOG_ENTRY_COST_BYTES + text_bytes(message.message)
                if self._admit_log(size):
                    self.log_entries.append(message)
                    self._events.add_log(message, size=size)
            case Inspected():
                size = len(msgspec.msgpack.encode(message))
                if self._admit_log(size):
                    self.inspected.append(message)
                    self._events.add_log(message, size=size)
            case LogDropped():
                self._count_stray(message)  # one is honest; the final count tells
            case Call():
                self._take_call(message)
            case Finished():
                self._guest.drain_output()
                self.dropped_log_entries += max(0, message.dropped_log_entries)
                self._finished.set_result(message)
            case _:
                self._count_stray(message)

    def _is_mine(self, message: GuestMessage) -> bool:
        """Whether a debug report is about this run, and still expected."""
        if self._finished.done():
            return False
        return isinstance(message, CommandDone) or getattr(message, "run_id", None) == self._run.run_id

    def _admit_log(self, size: int) -> bool:
        if self._log_room < size:
            self.dropped_log_entries += 1
            self._log_excess += size
            if self._log_excess > _LOG_FLOOD_FACTOR * self.limits.log_bytes:
                raise ChannelBroken("log entries far beyond the limit")
            return False
        self._log_room -= size
        return True

    def _count_stray(self, message: GuestMessage) -> None:
        self._stray += 1
        if self._stray > _MAX_STRAY_MESSAGES:
            raise ChannelBroken(f"{type(message).__name__} without a request")

    def _take_call(self, call: Call) -> None:
        self._call_count += 1
        if len(self._calls) >= _MAX_OPEN_CALLS or self._call_count > _MAX_CALLS:
            raise ChannelBroken("too many calls at once")
        task = asyncio.create_task(self._answer(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, call: Call) -> None:
        reply = await self._call(call)
        if not self._finished.done():
            self._guest.send(reply)
