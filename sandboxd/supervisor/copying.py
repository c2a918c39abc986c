"""Orders a copy of a guest and makes sure that exactly that copy exists, or nothing.

The guest forks itself on the host's word. The host opens the fork gate for one fork of that process, and
learns from the kernel who wrote the copy's first word. A guest that forks and hides the copy has broken
the protocol: it and every process of its family that the host does not know are killed.
"""

import asyncio
import os
import socket
from dataclasses import dataclass

from sandboxd.channel.messages import Fork, ForkFailed, GuestMessage, HostMessage
from sandboxd.errors import CopyFailed, GuestSetupFailed
from sandboxd.supervisor.family import Family
from sandboxd.supervisor.guest_exit import GuestSink, OutputStream
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.waiting import first_of

_COPY_SECONDS = 15.0
"""A gigabyte of small objects is copied in 0.03 s and 256 MiB of files are read in 0.2 s; a busy machine
takes its time. Longer, and the guest is taken for hostile."""


def open_guest(
    guest_id: int, family: Family, *, copy_of: GuestProcess | None = None
) -> tuple[GuestProcess, list[int]]:
    """The host's half of the descriptors in a `GuestProcess`, the guest's half as numbers."""
    opened: list[int] = []
    try:
        opened += [end.detach() for end in socket.socketpair()]
        opened += os.pipe2(os.O_CLOEXEC)
        opened += os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise GuestSetupFailed(step="descriptors", problem=str(error)) from error
    channel, their_channel, stdout, their_stdout, stderr, their_stderr = opened
    guest = GuestProcess(
        guest_id=guest_id,
        family=family,
        channel=socket.socket(fileno=channel),
        stdout=stdout,
        stderr=stderr,
        copy_of=copy_of,
    )
    return guest, [their_channel, their_stdout, their_stderr]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequel:
    """Who takes what else the guest says, and what it is told right behind the order."""

    sink: GuestSink
    message: HostMessage | None = None


async def copy_guest(guest: GuestProcess, copy_id: int, *, sequel: Sequel | None = None) -> GuestProcess:
    """A copy of an idle guest. `CopyFailed` when there is none; then no process of it is left.

    The guest gets the `sequel` whatever becomes of the copy, which knows nothing of it.
    """
    async with guest.copying:
        return await _copy(guest, copy_id, sequel)


async def _copy(guest: GuestProcess, copy_id: int, sequel: Sequel | None) -> GuestProcess:
    gate = guest.gate
    if gate is None or not guest.alive:
        raise CopyFailed(problem="the session has ended" if gate else "this server has no fork gate")
    guest.family.allow_tasks(guest, forks=1)
    copy, descriptors = open_guest(copy_id, guest.family, copy_of=guest)
    refusal = _Refusal(copy_id, sequel.sink if sequel else None)
    guest.listen(refusal)
    guest.family.orders += 1
    try:
        try:
            _order(guest, copy_id, descriptors)
        finally:
            if sequel and sequel.message is not None:
                guest.send(sequel.message)
        await _hello(copy, refusal)
    except BaseException as error:
        copy.kill("not needed")
        if gate.withdraw(guest.pid) == 0 and copy.pidfd < 0:
            guest.family.sweep_soon()
        if isinstance(error, _NoAnswer):
            guest.kill("did not copy itself as ordered")
        raise
    finally:
        gate.withdraw(guest.pid)
        if guest.tells(refusal):
            guest.listen(sequel.sink if sequel else None)  # its answer may come after the copy's first word
        guest.family.orders -= 1
    guest.family.park(copy)
    zygote = guest.family.zygote
    zygote.guests[copy_id] = copy  # its death is theirs, and it is not retired while they live
    copy.when_gone(lambda gone: zygote.forget(gone.guest_id))
    return copy


def _order(guest: GuestProcess, copy_id: int, descriptors: list[int]) -> None:
    assert guest.gate is not None
    guest.gate.allow_one(guest.pid)
    try:
        guest.send_beside(Fork(fork_id=copy_id), descriptors)
    except OSError as error:
        raise CopyFailed(problem=f"the session takes no orders: {error.strerror}") from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class _NoAnswer(CopyFailed):
    """The guest neither copied itself nor said why not."""


async def _hello(copy: GuestProcess, refusal: "_Refusal") -> None:
    """Waits for the copy's first word, the guest's refusal, or the end of the channel."""
    await first_of(copy.greeting, refusal.problem, seconds=_COPY_SECONDS)
    if copy.greeting.done():
        error = copy.greeting.exception()
        if error is None:
            return
        if isinstance(error, GuestSetupFailed) and error.step in ("copy", "too large"):
            raise CopyFailed(problem=error.problem, too_large=error.step == "too large")
        raise CopyFailed(problem="the copy died before it was complete")
    if not refusal.problem.done():
        raise _NoAnswer(problem="the session did not copy itself in time and was ended")
    message = refusal.problem.result()
    raise CopyFailed(problem=message.problem[:500], too_large=message.too_large)


class _Refusal:
    """Takes the guest's word that it could not fork; anything else is for the sequel's sink."""

    def __init__(self, fork_id: int, other: GuestSink | None) -> None:
        self._fork_id = fork_id
        self._other = other
        self.problem: asyncio.Future[ForkFailed] = asyncio.get_running_loop().create_future()

    def message(self, message: GuestMessage) -> None:
        if isinstance(message, ForkFailed) and message.fork_id == self._fork_id:
            if not self.problem.done():
                self.problem.set_result(message)
        elif self._other is not None:
            self._other.message(message)

    def output(self, stream: OutputStream, data: bytes) -> None:
        """What is written in the middle of a run; between executions nothing is."""
        if self._other is not None:
            self._other.output(stream, data)
