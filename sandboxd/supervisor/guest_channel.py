"""The host's end of one guest's channel: frames in and out, neither without bound. What comes is hostile."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import TypeAlias

from sandboxd.channel.framing import ChannelBroken, FrameBuffer, Outgoing, decode_guest_message, encode_frame
from sandboxd.channel.messages import GuestMessage, HostMessage
from sandboxd.supervisor.backlog import Backlog

SETUP_FRAME_BYTES = 64 * 1024
"""The longest frame before the guest is configured."""
_READ_BYTES = 256 * 1024
_MAX_BACKLOG_BYTES = 32 * 1024 * 1024
"""Messages a guest has not read yet. More is for one that asks and asks and never listens."""
_MOST_LAST_READS = 64

MessageTaker: TypeAlias = Callable[[GuestMessage], None]
"""Takes a decoded message; `ChannelBroken` ends the guest."""


def _nobody(*_: object) -> None:
    """In place of a guest that has ended: what refers back to it would keep both until a full collection."""


class GuestChannel:
    """Owns the socket. `fail` is told why the guest must end, `ended` that it writes no more."""

    def __init__(self, end: socket.socket, *, fail: Callable[[str], None], ended: Callable[[], None]) -> None:
        self.end = end
        self.reading = False
        """Whether something that comes is read: not after the end, nor while it is paused."""
        self._loop = asyncio.get_running_loop()
        self._fail = fail
        self._ended = ended
        self._take: MessageTaker
        self._frames = FrameBuffer(max_frame_bytes=SETUP_FRAME_BYTES)
        self._outgoing = Backlog()
        end.setblocking(False)

    @property
    def max_frame_bytes(self) -> int:
        """The longest frame that is taken; may be changed at any time."""
        return self._frames.max_frame_bytes

    @max_frame_bytes.setter
    def max_frame_bytes(self, value: int) -> None:
        self._frames.max_frame_bytes = value

    # --- reading ---------------------------------------------------------------------------------

    def read(self, take: MessageTaker, *, readable: Callable[[], None] | None = None) -> None:
        """Hands every message to `take` from now on; `readable` does the reading in place of recv(2)."""
        self._take = take
        self._watch(readable or self._readable)

    def pause(self) -> None:
        """Stops reading; the guest blocks in send(2) once its socket is full."""
        if self.reading:
            self.reading = False
            self._loop.remove_reader(self.end.fileno())

    def resume(self) -> None:
        """Reads again."""
        if self.end.fileno() >= 0:
            self._watch(self._readable)

    def feed(self, data: bytes) -> None:
        """Takes what was read."""
        take = self._take
        try:
            for body in self._frames.feed(data):
                take(decode_guest_message(body))
        except ChannelBroken as error:
            self.pause()
            self._fail(f"broke the channel protocol: {error}")

    def last_words(self) -> None:
        """Reads what arrived before the death; a taker that stops the reading stops it."""
        for _ in range(_MOST_LAST_READS):
            before = self.reading
            with contextlib.suppress(OSError):
                data = self.end.recv(_READ_BYTES)
                if data and before:
                    self.feed(data)
                    continue
            return

    def _watch(self, readable: Callable[[], None]) -> None:
        self.reading = True
        self._loop.add_reader(self.end.fileno(), readable)

    def _readable(self) -> None:
        try:
            data = self.end.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self.feed(data)
        else:
            self.pause()
            self._ended()

    # --- writing ---------------------------------------------------------------------------------

    def send(self, message: Outgoing) -> None:
        """Queues a message; what a dead guest does not take is dropped."""
        if len(self._outgoing) > _MAX_BACKLOG_BYTES:
            self._fail("does not read its channel")
            return
        self._outgoing.add(message)
        self._flush()

    def send_beside(self, message: HostMessage, descriptors: list[int]) -> None:
        """Sends a message at once with `descriptors` beside it; OSError when it can't be sent whole."""
        if self._outgoing or self.end.fileno() < 0:
            raise OSError(errno.EAGAIN, "the channel is not free")
        frame = encode_frame(message)
        if socket.send_fds(self.end, [frame], descriptors) != len(frame):
            raise OSError(errno.EAGAIN, "the channel is full")

    def _flush(self) -> None:
        if self.end.fileno() < 0:
            return
        try:
            self._outgoing.send(self.end)
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self.end.fileno(), self._flush)
            return
        except OSError:  # the guest is gone; its exit is reported elsewhere
            self._outgoing.clear()
        self._loop.remove_writer(self.end.fileno())

    def close(self) -> None:
        """Gives the socket back, and forgets who listened; harmless when it was done."""
        self.pause()
        self._take = self._fail = self._ended = _nobody
        if self.end.fileno() >= 0:
            self._loop.remove_writer(self.end.fileno())
            self.end.close()
