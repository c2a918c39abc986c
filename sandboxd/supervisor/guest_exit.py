"""What a guest says and how it ends, in the words of those who deal with it."""

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import Literal, Protocol

from sandboxd.channel.framing import ChannelBroken
from sandboxd.channel.messages import GuestMessage
from sandboxd.supervisor import pidfds

OutputStream = Literal["stdout", "stderr"]

OUT_OF_MEMORY = "out of memory"
"""Reason of the end of a copy whose memory the session needed."""
ZYGOTE_DIED = "its zygote died"
"""Reason of the end of every guest of a zygote that is gone."""
_MAX_STRAY_MESSAGES = 64
_STATUS_TRIES = 50
_STATUS_PAUSE_SECONDS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestExit:
    """How a guest ended."""

    status: int | None
    """As waitpid(2) gives it; None when nobody could reap it, as after the death of its zygote."""
    killed_for: str
    """Why the host killed it; empty when it died by itself."""
    oom_killed: bool
    """The kernel killed it, or a process of its group, for memory; or the host did, a copy."""
    cpu_nanos: int = 0
    """CPU time of its whole life; 0 when nobody could tell."""
    peak_memory_bytes: int = 0
    """Most memory since the peak was last reset, where a control group counted it."""

    @property
    def signal_name(self) -> str:
        """Name of the signal that ended it, e.g. SIGSEGV; empty for an exit."""
        if self.status is None or not os.WIFSIGNALED(self.status):
            return ""
        return signal.Signals(os.WTERMSIG(self.status)).name

    @property
    def exit_code(self) -> int | None:
        """What it gave to _exit(2); None when a signal ended it or nobody knows."""
        if self.status is None or not os.WIFEXITED(self.status):
            return None
        return os.WEXITSTATUS(self.status)


class GuestSink(Protocol):
    """Who takes what a guest says, one at a time."""

    def message(self, message: GuestMessage) -> None:
        """A decoded message; `ChannelBroken` ends the guest."""

    def output(self, stream: OutputStream, data: bytes) -> None:
        """Bytes the guest wrote."""


class NobodyListens:
    """Counts what an idle guest says; too much of it ends the guest."""

    def __init__(self) -> None:
        self._count = 0

    def message(self, message: GuestMessage) -> None:
        self._count += 1
        if self._count > _MAX_STRAY_MESSAGES:
            raise ChannelBroken(f"{type(message).__name__} without a request")

    def output(self, stream: OutputStream, data: bytes) -> None:
        """Output between executions belongs to none and is dropped."""


async def status_of_unreaped(pidfd: int) -> int | None:
    """How a copy ended, which nobody reaps for us: its parent ignores it, or is dead and the zygote reaps
    it. None on a kernel that does not tell."""
    for _ in range(_STATUS_TRIES if pidfds.tells_exit_status() else 0):
        status = pidfds.exit_status(pidfd)
        if status is not None:
            return status
        await asyncio.sleep(_STATUS_PAUSE_SECONDS)
    return None
