"""The programs of the client's page print what the page shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sandboxd_client.service_config import ALLOWED_KEYS

from tests.support.server_process import Server

_PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
_PROGRAMS = re.findall(r"```python\n(.*?)```\s+```text\n(.*?)```", _PAGE, re.DOTALL)


def test_every_program_shows_what_it_prints() -> None:
    assert len(_PROGRAMS) == _PAGE.count("```python")


@pytest.mark.parametrize(("program", "expected"), _PROGRAMS)
def test_program_prints_what_the_page_shows(server: Server, program: str, expected: str) -> None:
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"SANDBOXD_ADDRESS": server.tcp, "SANDBOXD_TOKEN": server.token},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == expected


def test_every_key_of_a_configuration_is_told() -> None:
    assert [key for key in ALLOWED_KEYS if f"`{key}`" not in _PAGE] == []
