"""Types are part of the interface: a type checker sees in a program what the client means."""

import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", sorted(_HERE.glob("*_api.py")), ids=lambda path: path.stem)
def test_program_is_understood_by_the_type_checker(program: Path) -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--warn-unused-ignores",
            "--config-file",
            "/dev/null",
            str(program),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"MYPYPATH": str(_HERE.parents[1] / "clients" / "python"), "PATH": "/usr/bin:/bin"},
    )
    mine = [
        line
        for line in found.stdout.splitlines()
        if line.startswith(str(program.name)) or program.name in line
    ]
    assert mine == [], "\n".join(mine)
    assert "Success" in found.stdout or "error" in found.stdout, found.stderr
