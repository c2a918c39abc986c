"""The first word of a guest: data, a descriptor beside it, and of a copy the sender by the kernel's word."""

import array
import contextlib
import os
import socket
from dataclasses import dataclass

_SO_PASSPIDFD = 76  # asm-generic/socket.h, since Linux 6.5
_SCM_PIDFD = 4
_FD_BYTES = 4
_ANCILLARY_BYTES = socket.CMSG_SPACE(_FD_BYTES) * 3


@dataclass(frozen=True, slots=True)
class Greeting:
    """What came; -1 for a descriptor that did not. The receiver owns both."""

    data: bytes
    descriptor: int = -1
    sender: int = -1
    """A pidfd of the process that wrote the data."""


def ask_for_sender(channel: socket.socket, *, wanted: bool = True) -> None:
    """Lets the kernel add a pidfd of the sender to what is received: the only name of a copy that cannot
    be forged or reused. See unix(7)."""
    channel.setsockopt(socket.SOL_SOCKET, _SO_PASSPIDFD, int(wanted))


def knows_senders() -> bool:
    """Whether the kernel has the option."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            ask_for_sender(ours)
        except OSError:
            return False
    return True


def receive(channel: socket.socket, size: int) -> Greeting | None:
    """What is there to read; None when nothing is. Empty data means that the peer is gone."""
    try:
        data, ancillary, _, _ = channel.recvmsg(size, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return Greeting(b"")
    found = {socket.SCM_RIGHTS: -1, _SCM_PIDFD: -1}
    for level, kind, payload in ancillary:
        numbers = array.array("i", payload[: len(payload) - len(payload) % _FD_BYTES])
        for number in numbers:
            if level == socket.SOL_SOCKET and kind in found and found[kind] < 0:
                found[kind] = number
            elif number >= 0:
                with contextlib.suppress(OSError):
                    os.close(number)
    return Greeting(data, descriptor=found[socket.SCM_RIGHTS], sender=found[_SCM_PIDFD])
