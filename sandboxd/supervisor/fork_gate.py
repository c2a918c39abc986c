"""Decides forks of a guest: user code's are refused and counted, one that the host ordered goes through.

The guest's filter sends every clone without CLONE_THREAD here (seccomp user notification) and the caller
waits for the answer, so answers come from the event loop's reader and never wait on a guest.
Source: seccomp_unotify(2).
"""

import asyncio
import errno
import fcntl
import os
import select
import struct

_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif: id, pid, flags, then struct seccomp_data."""
_ANSWER = struct.Struct("=QqiI")
"""struct seccomp_notif_resp: id, val, error, flags."""
_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_MAX_REFUSED = 10_000
"""Each answer costs the host some 20 us; after so many the kernel refuses for it, and a guest that asks on
gets no checkpoints either."""


class ForkGate:
    """Owns the listener of one guest's filter, which its checkpoints and branches share."""

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._ordered: dict[int, int] = {}
        """Forks still allowed, by host pid."""
        self.refused_count = 0
        """Forks that user code tried, refused with EPERM."""
        asyncio.get_running_loop().add_reader(listener, self._answer)

    def allow_one(self, pid: int) -> None:
        """Lets the next fork of process `pid` (as the host sees it) through."""
        self._ordered[pid] = self._ordered.get(pid, 0) + 1

    def withdraw(self, pid: int) -> int:
        """Takes back what `allow_one` allowed and was not used; returns how many forks that is."""
        return self._ordered.pop(pid, 0)

    def close(self) -> None:
        """Stops answering: whoever still asks gets ENOSYS from the kernel."""
        if self._listener >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            os.close(self._listener)
            self._listener = -1

    def _answer(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        events = poller.poll(0)
        if not events:
            return
        if events[0][1] & select.POLLHUP:  # the last process of the filter is gone
            self.close()
            return
        request = bytearray(_NOTIFICATION.size)  # must be zero when it goes in
        try:
            fcntl.ioctl(self._listener, _RECEIVE, request, True)
            notification_id, pid, *_ = _NOTIFICATION.unpack(request)
            fcntl.ioctl(self._listener, _SEND, self._decide(notification_id, pid), True)
        except OSError as error:
            if error.errno != errno.ENOENT:  # ENOENT: the asking thread was killed meanwhile
                raise
        if self.refused_count >= _MAX_REFUSED:
            self.close()

    def _decide(self, notification_id: int, pid: int) -> bytearray:
        if self._ordered.get(pid):
            self._ordered[pid] -= 1
            return bytearray(_ANSWER.pack(notification_id, 0, 0, _CONTINUE))
        self.refused_count += 1
        return bytearray(_ANSWER.pack(notification_id, 0, -errno.EPERM, 0))
