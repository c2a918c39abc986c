"""Frames from and to a database worker. A large frame is received where it stays: no copy of it is made."""

import asyncio
from collections import deque
from typing import cast

from sandboxd.database.protocol import HEADER

_SCRATCH_BYTES = 64 * 1024
_WAITING_BYTES = 1 << 20
"""Received and not yet taken; beyond it the worker has to wait."""


class FrameTooLarge(Exception):
    """The peer announced a frame beyond the largest that is taken."""


class FrameStream(asyncio.BufferedProtocol):
    """Length-prefixed frames over a transport. One task at a time may receive, one may send."""

    def __init__(self, *, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._transport: asyncio.Transport | None = None
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._scratch_bytes = 0
        self._large: bytearray | None = None
        self._large_bytes = 0
        self._frames: deque[bytes | bytearray] = deque()
        self._waiting_bytes = 0
        self._error: Exception | None = None
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # --- for the owner ---------------------------------------------------------------------------

    async def receive(self) -> bytes | bytearray:
        """The next frame's body; raises `ConnectionError` when there is none, and `FrameTooLarge`."""
        while not self._frames:
            if self._error is not None:
                raise self._error
            self._wake.clear()
            await self._wake.wait()
        frame = self._frames.popleft()
        self._waiting_bytes -= len(frame)
        if self._transport is not None and self._waiting_bytes <= _WAITING_BYTES and self._error is None:
            self._transport.resume_reading()
        return frame

    async def send(self, frame: bytes) -> None:
        """Sends a frame, header and all; waits while the peer does not read."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError
        self._transport.write(frame)
        await self._writable.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Drops the connection and what has not been sent."""
        if self._transport is not None:
            self._transport.abort()

    # --- for the transport -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from none of asyncio's

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc if isinstance(exc, ConnectionError) else ConnectionResetError())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._large is not None:
            return memoryview(self._large)[self._large_bytes :]
        return self._scratch[self._scratch_bytes :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._large is None:
            self._scratch_bytes += nbytes
            self._split()
            return
        self._large_bytes += nbytes
        if self._large_bytes == len(self._large):
            self._deliver(self._large)
            self._large = None

    def eof_received(self) -> bool:
        return False

    # --- internals -------------------------------------------------------------------------------

    def _split(self) -> None:
        """Takes the frames out of the scratch buffer; one that can't fit gets a place of its own."""
        start = 0
        while self._scratch_bytes - start >= HEADER.size:
            (length,) = HEADER.unpack_from(self._scratch, start)
            if length > self._max_frame_bytes:
                self._fail(FrameTooLarge())
                return
            body = start + HEADER.size
            if body + length > self._scratch_bytes:
                if HEADER.size + length > _SCRATCH_BYTES:
                    self._begin_large(body, length)
                    return
                break
            self._deliver(bytes(self._scratch[body : body + length]))
            start = body + length
        left = self._scratch_bytes - start
        if start:
            self._scratch[:left] = bytes(self._scratch[start : self._scratch_bytes])
        self._scratch_bytes = left

    def _begin_large(self, body: int, length: int) -> None:
        self._large = bytearray(length)
        self._large_bytes = self._scratch_bytes - body
        self._large[: self._large_bytes] = self._scratch[body : self._scratch_bytes]
        self._scratch_bytes = 0

    def _deliver(self, frame: bytes | bytearray) -> None:
        self._frames.append(frame)
        self._waiting_bytes += len(frame)
        if self._waiting_bytes > _WAITING_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._wake.set()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake.set()
        self._writable.set()
        self.close()
