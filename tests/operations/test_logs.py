"""What a log line may hold: one line an event, user text escaped and cut."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import structlog

from sandboxd import logs


@pytest.fixture(autouse=True)
def _restored() -> Any:
    yield
    structlog.reset_defaults()


def _logged(style: Any, **fields: Any) -> str:
    with redirect_stderr(io.StringIO()) as written:
        logs.configure(style=style, level="info")
        structlog.get_logger("test").info("event.seen", **fields)
    return written.getvalue()


@pytest.mark.parametrize("style", ["json", "console"])
def test_text_with_line_breaks_and_escapes_stays_on_one_harmless_line(style: str) -> None:
    line = _logged(style, problem="a\nforged=1\r\x1b[2J\u2028\u202e")
    assert line.count("\n") == 1
    for char in ("\r", "\x1b[2J", "\u2028", "\u202e"):
        assert char not in line


def test_log_that_cannot_be_written_stops_nothing() -> None:
    program = (
        "import structlog; from sandboxd import logs; logs.configure(style='json', level='info'); "
        "[structlog.get_logger().info('event.seen', text='x' * 1000) for _ in range(100)]; print('went on')"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_a_long_text_is_cut() -> None:
    text = str(json.loads(_logged("json", problem="x" * 100_000))["problem"])
    assert len(text) <= 1024 + len("...")
    assert text.endswith("...")


def test_an_exception_with_a_hostile_message_keeps_its_traceback_and_nothing_else() -> None:
    hostile = ValueError("\x1b[2J" + "y" * 200_000 + "end")
    text = str(json.loads(_logged("json", exc_info=hostile))["exception"])
    assert "\x1b" not in text
    assert text.endswith("end")
    assert len(text) < 20_000
