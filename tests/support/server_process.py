"""A server in a process of its own, as a user would start it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a server under test listens."""

    tcp: str
    unix: str
    token_file: Path
    pid: int
    metrics: str = ""
    """host:port of the figures, where they are served."""

    @property
    def token(self) -> str:
        """Its token."""
        return self.token_file.read_text().strip()


@contextmanager
def server_process(directory: Path, *arguments: str, **settings: str) -> Iterator[Server]:
    """`python -m sandboxd serve` on a free port, its state in `directory`.

    `settings` are given as SANDBOXD_* variables.
    """
    log = directory / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOXD_")}
    environment |= {f"SANDBOXD_{name.upper()}": value for name, value in settings.items()}
    places = ["--port", "0", "--unix-socket", str(directory / "s"), "--data-directory", str(directory)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sandboxd",
                "serve",
                "--json",
                "--log-format",
                "json",
                *places,
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"the server did not start: {log.read_text()[-1000:]}"
        facts = json.loads(line)
        yield Server(
            tcp=facts["tcp"],
            unix=facts["unix"],
            token_file=Path(facts["token_file"]),
            pid=process.pid,
            metrics=facts["metrics"],
        )
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
