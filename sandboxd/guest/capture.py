"""Standard output and error of user code: text over descriptors 1 and 2, never failing over a character."""

import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


class _DescriptorWriter(io.RawIOBase):
    """Writes everything, at once, to a descriptor it does not own.

    Nothing is kept here: a write that SIGINT ended while the host was not reading is over and done, where
    a buffered writer would try again, and block again, at every later flush.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.written = [0]
        """One number: the bytes written here since it was last replaced."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            written += os.write(self._descriptor, view[written:])
        self.written[0] += written
        return written


def _text_over(descriptor: int, name: str) -> TextIO:
    writer: Any = _DescriptorWriter(descriptor)
    writer.name = name
    return io.TextIOWrapper(
        writer, encoding="utf-8", errors="backslashreplace", line_buffering=True, newline="\n"
    )


class Output:
    """The two streams of a guest."""

    def __init__(self) -> None:
        self._streams = {"stdout": _text_over(1, "<stdout>"), "stderr": _text_over(2, "<stderr>")}

    def install(self) -> None:
        """Makes the streams sys.stdout and sys.stderr again, whatever user code put or did there."""
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            if self._streams[name].closed:
                self._streams[name] = _text_over(descriptor, f"<{name}>")
            setattr(sys, name, self._streams[name])
            setattr(sys, f"__{name}__", self._streams[name])

    def write_through(self, on: bool) -> None:  # noqa: FBT001  one question, one answer
        """Whether each write reaches stdout's descriptor at once, so that `stdout_count` is exact."""
        stream: Any = self._streams["stdout"]
        if not stream.closed:
            stream.reconfigure(write_through=on)

    def stdout_count(self) -> list[int]:
        """The bytes that reach stdout's descriptor from now on: one number, always up to date, to be looked
        at without a call."""
        stream: Any = self._streams["stdout"]
        count = [0]
        if not stream.closed:
            stream.buffer.written = count
        return count

    def flush(self, run: Callable[[Callable[[], None]], None]) -> None:
        """Flushes both through `run`; what cannot be written is lost, as with any closed pipe."""
        for stream in {id(s): s for s in (sys.stdout, sys.stderr, *self._streams.values())}.values():
            try:
                run(stream.flush)
            except BaseException:  # noqa: S112  user code's own stream may raise anything
                continue
