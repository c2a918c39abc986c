"""How the server logs: one event a line, on stderr; user text is escaped and cut, code never appears."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

_LONGEST_VALUE = 1024


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
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _bounded(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            text = "".join(
                char if char.isprintable() else repr(char)[1:-1] for char in value[:_LONGEST_VALUE]
            )
            event[key] = text + "..." if len(value) > _LONGEST_VALUE else text
    return event
