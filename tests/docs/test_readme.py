"""The README's program prints what the README says it prints."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a client whose server runs as the README starts it."""
    directory = tmp_path_factory.mktemp("server")
    process = subprocess.Popen(
        [sys.executable, "-m", "sandboxd", "serve", "--port", "0", "--data-directory", directory, "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    found = re.search(r"127\.0\.0\.1:\d+", first)
    assert found, f"the server said {first!r}"
    yield {
        "SANDBOXD_ADDRESS": found.group(),
        "SANDBOXD_TOKEN": (directory / "token").read_text().strip(),
    }
    process.terminate()
    process.stdout.close()
    assert process.wait(timeout=30) == 0


PROGRAMS = re.findall(r"```python\n(.*?)```\s+```text\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(("program", "expected"), PROGRAMS, ids=["start", "sessions", "debugging"])
def test_readme_program_run_as_shown_prints_what_the_readme_shows(
    server: dict[str, str], program: str, expected: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **server},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    assert result.stdout == expected


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((docs/[^)#]+)\)", README))))
def test_readme_link_names_something_that_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_readme_commands_are_known_to_the_run_script() -> None:
    commands = set(re.findall(r"\./run (\w+)", README))
    script = (ROOT / "run").read_text(encoding="utf-8")
    known = re.search(r"^  (demo\|.*)\) ;;$", script, re.MULTILINE)
    assert known
    assert commands <= set(known.group(1).split("|"))
