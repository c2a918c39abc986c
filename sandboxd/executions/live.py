"""An execution that can be followed, cancelled and waited for, while it runs and afterwards."""

import asyncio

import msgspec

from sandboxd.accounts.quotas import Lease
from sandboxd.errors import SandboxdError
from sandboxd.executions.debug_feed import DebugFeed
from sandboxd.executions.events import EventLog
from sandboxd.executions.model import Execution
from sandboxd.executions.run import CANCEL, GuestRun


class LiveExecution:
    """An execution with its events; `finished` resolves when the result is in place."""

    def __init__(self, execution: Execution, *, events: EventLog) -> None:
        self.execution = execution
        self.events = events
        self.run: GuestRun | None = None
        self.feed: DebugFeed | None = None
        """What a debug run reports; None when it is not debugged."""
        self.cancelled = False
        self.refused: SandboxdError | None = None
        """Why it could not be run at all; the call ends with it."""
        self.task: asyncio.Task[None] | None = None
        self.lease: Lease | None = None
        """A debug run's place in its user's share, given back with the result."""
        self.past = False
        """Whether it was read back from the store, without its events."""
        self._finished = asyncio.Event()
        self._result_bytes = 0

    @property
    def done(self) -> bool:
        """Whether the result is in place."""
        return self._finished.is_set()

    @property
    def stored_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return len(self.execution.request.code) + self._result_bytes + self.events.kept_bytes

    @classmethod
    def of_the_past(cls, execution: Execution) -> "LiveExecution":
        """One that ended before; its events are no longer kept but the last."""
        live = cls(execution, events=EventLog(budget_bytes=0))
        live.past = True
        live.finish()
        return live

    def cancel(self) -> None:
        """Asks for its end; harmless when it has ended or was asked before."""
        if self.cancelled:
            return
        self.cancelled = True
        if self.run is not None:
            self.run.stop(CANCEL)
        elif self.task is not None and not self.done:
            self.task.cancel()  # it still waits for its turn

    async def wait(self) -> None:
        """Waits for the result."""
        await self._finished.wait()

    def finish(self) -> None:
        """Everything is in place: wakes who waits."""
        result = self.execution.result
        if result is not None:  # all of it: the failure and what was inspected are the guest's words too
            self._result_bytes = len(msgspec.msgpack.encode(result))
        self.events.end()
        self.execution.last_sequence = self.events.last_sequence
        self.run = None  # it holds all of the output once more
        self._finished.set()
