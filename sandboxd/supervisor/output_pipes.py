"""What a guest writes to stdout and stderr, as the host reads it: never more than somebody wants."""

import asyncio
import os
from collections.abc import Callable
from typing import TypeAlias

from sandboxd.supervisor.guest_exit import OutputStream

_READ_BYTES = 256 * 1024
_MAX_STRAY_BYTES = 256 * 1024
"""Output read and dropped between executions; after that the pipes fill and the writers wait."""

OutputTaker: TypeAlias = Callable[[OutputStream, bytes], bool]
"""Takes what was written; False when nobody wanted it."""


def _nobody(_stream: OutputStream, _data: bytes) -> bool:
    return False


class OutputPipes:
    """Owns the reading ends of both pipes."""

    def __init__(self, *, stdout: int, stderr: int, take: OutputTaker) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptors: dict[OutputStream, int] = {"stdout": stdout, "stderr": stderr}
        self._reading: set[OutputStream] = set()
        self._take = take
        self._stray_bytes = 0
        for descriptor in (stdout, stderr):
            os.set_blocking(descriptor, False)

    def resume(self) -> None:
        """Reads both, from now on for whoever takes output now."""
        self._stray_bytes = 0
        for stream, descriptor in self._descriptors.items():
            if descriptor >= 0 and stream not in self._reading:
                self._reading.add(stream)
                self._loop.add_reader(descriptor, self._readable, stream)

    def pause(self) -> None:
        """Stops reading; the guest blocks in write(2) once a pipe is full."""
        for stream in list(self._reading):
            self._stop(stream)

    def drain(self) -> None:
        """Hands over what the pipes hold right now, so that output precedes the end of an execution."""
        for stream, descriptor in self._descriptors.items():
            while descriptor >= 0 and self._read(stream) == _READ_BYTES:
                pass

    def close(self) -> None:
        """Gives both descriptors back, and forgets who took what came."""
        self.pause()
        self._take = _nobody
        for stream, descriptor in self._descriptors.items():
            if descriptor >= 0:
                os.close(descriptor)
                self._descriptors[stream] = -1

    def _stop(self, stream: OutputStream) -> None:
        if stream in self._reading:
            self._reading.discard(stream)
            self._loop.remove_reader(self._descriptors[stream])

    def _readable(self, stream: OutputStream) -> None:
        self._read(stream)
        if self._stray_bytes > _MAX_STRAY_BYTES:
            self.pause()

    def _read(self, stream: OutputStream) -> int:
        try:
            data = os.read(self._descriptors[stream], _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            data = b""
        if not data:
            self._stop(stream)
        elif not self._take(stream, data):
            self._stray_bytes += len(data)
        return len(data)
