"""Whether a session's state can be kept, seen from outside: its own word is not asked."""

import asyncio
import contextlib

from sandboxd.channel.messages import GuestMessage, Restored
from sandboxd.sandboxes.model import CheckpointMode, CheckpointReport, SandboxSpec, SkipReason
from sandboxd.supervisor import pidfds
from sandboxd.supervisor.guest_exit import OutputStream
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.supervisor import Supervisor

_THREAD_WAITS_SECONDS = (0.002, 0.01, 0.03)
"""A thread that has ended may still be counted for a moment."""


async def refusal(guest: GuestProcess, *, budget: int) -> tuple[SkipReason, str] | None:
    """Why the state can't be kept rightly, as seen from outside."""
    threads = pidfds.thread_count(guest.pid)
    for pause in _THREAD_WAITS_SECONDS:
        if threads <= 1:
            break
        await asyncio.sleep(pause)
        threads = pidfds.thread_count(guest.pid)
    if threads > 1:
        return (
            SkipReason.LIVE_THREADS,
            f"user code has threads that are alive ({threads - 1}); a copy would not have them",
        )
    own = pidfds.anonymous_bytes(guest.pid)
    if own > budget + guest.base_anonymous_bytes:
        return (
            SkipReason.TOO_LARGE,
            f"the session uses {own} bytes where {budget} may be kept",
        )
    return None


def excess_bytes(guest: GuestProcess, *, budget: int) -> int:
    """Bytes above the budget. What the kept states share with the session is the session's."""
    if guest.cgroup is None:
        return 0
    used = guest.cgroup.memory_bytes() - budget
    if used <= 0:
        return used
    sessions = [member.pid for member in guest.family.members if not member.parked]
    return used - sum(pidfds.anonymous_bytes(pid) for pid in sessions)


class RestoredWaiter:
    """Takes the one answer that was asked for; everything else is dropped."""

    def __init__(self, request_id: int) -> None:
        self._request_id = request_id
        self.answer: asyncio.Future[Restored] = asyncio.get_running_loop().create_future()

    def message(self, message: GuestMessage) -> None:
        if isinstance(message, Restored) and message.request_id == self._request_id:
            with contextlib.suppress(asyncio.InvalidStateError):
                self.answer.set_result(message)

    def output(self, stream: OutputStream, data: bytes) -> None:
        """Nothing is written meanwhile."""


def unsupported(supervisor: Supervisor, spec: SandboxSpec) -> CheckpointReport:
    """Why no state of such a sandbox is ever kept; FAILED, which may change, where it can be."""
    if spec.checkpoints.mode is CheckpointMode.DISABLED:
        return CheckpointReport(skipped=SkipReason.DISABLED, message="checkpoints are off for this sandbox")
    if supervisor.checkpoints_missing:
        return CheckpointReport(skipped=SkipReason.UNSUPPORTED, message=supervisor.checkpoints_missing)
    return CheckpointReport(skipped=SkipReason.FAILED, message="the state was not kept yet")
