"""The worked example of docs/debugging.md, run as it stands there, prints what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import Serving

PAGE = (Path(__file__).parents[2] / "docs" / "debugging.md").read_text(encoding="utf-8")
PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
SHOWN = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def printed(server: Serving) -> str:
    """What the example prints."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "SANDBOXD_ADDRESS": server.address, "SANDBOXD_TOKEN": server.token},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    return result.stdout


def test_the_example_prints_the_steps_shown(printed: str) -> None:
    assert printed.startswith(SHOWN[0])


def test_the_example_prints_the_failure_report_shown(printed: str) -> None:
    assert SHOWN[1] in printed


def test_the_example_prints_the_answers_told_in_the_text(printed: str) -> None:
    after_the_report = printed.partition(SHOWN[1])[2].splitlines()
    told = re.findall(r"`([^`]+)`", PAGE.partition('`when_changed("averages")` prints')[2])[:6]
    for line in (" ".join(text.split()) for text in told):
        parts = [part.strip() for part in line.split("...")]
        assert any(all(part in shown for part in parts) for shown in after_the_report), line
