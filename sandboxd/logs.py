"""How the server logs: one event a line, on stderr; user text is escaped and cut, code never appears."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog

_LONGEST_VALUE = 1024
_LONGEST_TRACEBACK = 16 * 1024


def configure(*, style: Literal["auto", "json", "console"], level: str) -> None:
    """Sets up logging for the process; `auto` is for people on a terminal and JSON elsewhere."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bounded,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )


class _Unfailing:
    """A stream whose disk may be full or whose reader may be gone: a line that can't be written is lost,
    and what was to be logged goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._descriptor: int | None = stream.fileno()
        except io.UnsupportedOperation:
            self._descriptor = None

    def write(self, text: str) -> None:
        """Writes a line past the stream's buffer, which would keep what failed and fail again at the end."""
        if self._descriptor is None:
            self._stream.write(text)
            return
        left = memoryview(text.encode(errors="backslashreplace"))
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self._descriptor, left) :]

    def flush(self) -> None:
        """Nothing is buffered here."""


def _bounded(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _traceback(value) if key == "exception" else _line(value)
    return event


def _line(text: str) -> str:
    """One line, cut."""
    shown = _printable(text[:_LONGEST_VALUE])
    return shown + "..." if len(text) > _LONGEST_VALUE else shown


def _traceback(text: str) -> str:
    """Its own lines, the last of them where it is cut: they name the error."""
    shown = "\n".join(_printable(line) for line in text[-_LONGEST_TRACEBACK:].split("\n"))
    return "..." + shown if len(text) > _LONGEST_TRACEBACK else shown


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
