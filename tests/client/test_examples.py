"""Every example runs as it is and prints what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server_process import Server

_EXAMPLES = Path(__file__).parents[2] / "examples"

_PROMISES = {
    "best_of.py": ["candidate 1: IndexError", "candidate 2 wins", "the session goes on with {'kind': 'line'"],
    "quickstart.py": ["16", "failed | IndexError", "timed_out | ", "3 prices are still there"],
    "agent_loop.py": ["turn 1: failed: ", "nltk", "turn 2: failed: NameError", "turn 3: value: (3, 'quick')"],
    "analyze_orders.py": ["columns: ", "north", "total: 620.0"],
    "follow_output.py": ["output: chunk 0", "log:    1 % done", "ended:  cancelled", "number is "],
    "granted_writes.py": ["users since 2024: ", "refused: UPDATE of documents (processed)", "granted: 1 row"],
    "query_database.py": ["sample (sqlite): ", "from the sandbox: {", "refused: SQL_WRITE_NOT_GRANTED"],
}


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [path.name for path in _EXAMPLES.glob("*.py") if path.stem not in tests] == []


@pytest.mark.parametrize("name", _PROMISES)
def test_example_prints_what_it_promises(server: Server, name: str) -> None:
    found = subprocess.run(
        [sys.executable, "-W", "error", str(_EXAMPLES / name)],
        env=os.environ | {"SANDBOXD_ADDRESS": server.tcp, "SANDBOXD_TOKEN": server.token},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    for promise in _PROMISES[name]:
        assert promise in found.stdout
