"""A PostgreSQL server of the tests' own: started from this machine's binaries, gone when they end."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

HARDENING = Path(__file__).parents[2] / "sandboxd/database/harden_postgres.sql"
_UNPRIVILEGED = 65534
"""PostgreSQL refuses to run as root."""


def find_binaries() -> Path | None:
    """The folder of initdb and postgres: on PATH, where Debian puts it, or as pg_config says."""
    candidates = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if config := shutil.which("pg_config"):
        candidates.append(Path(subprocess.check_output([config, "--bindir"], text=True).strip()))
    return next(
        (path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None
    )


@dataclass(frozen=True)
class PostgresServer:
    """A running server; every role may log in over its unix socket."""

    binaries: Path
    socket_directory: Path

    def url(self, role: str, database: str = "postgres") -> str:
        return f"postgresql://{role}@/{database}?host={self.socket_directory}"

    async def harden(self, database: str, role: str) -> None:
        """Runs the shipped script as psql would: variables, comments and \\gexec are all it uses."""
        connection = await asyncpg.connect(self.url("postgres", database))
        try:
            for statement, executes in psql_statements(HARDENING.read_text(), role=role, schema="public"):
                if not executes:
                    await connection.execute(statement)
                    continue
                for (generated,) in await connection.fetch(statement):
                    await connection.execute(generated)
        finally:
            await connection.close()


def psql_statements(script: str, **variables: str) -> Iterator[tuple[str, bool]]:
    """The statements of a script, and whether their rows are to be run in turn."""
    for name, value in variables.items():
        script = script.replace(f':"{name}"', f'"{value}"').replace(f":'{name}'", f"'{value}'")
    script = re.sub(r"--[^\n]*", "", script)
    for text, end in re.findall(r"(.+?)(;|\\gexec)", script, re.DOTALL):
        if text.strip():
            yield text.strip(), end != ";"


@contextmanager
def running_postgres(binaries: Path) -> Iterator[PostgresServer]:
    """A new, empty server for the length of the block."""
    root = Path(tempfile.mkdtemp(prefix="sandboxd-postgres-"))
    as_user = {}
    if os.geteuid() == 0:
        os.chown(root, _UNPRIVILEGED, _UNPRIVILEGED)
        as_user = {"user": _UNPRIVILEGED, "group": _UNPRIVILEGED, "extra_groups": []}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    data = root / "data"
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"],
            check=True, stdout=subprocess.DEVNULL, env=environment, cwd=root, **as_user,
        )  # fmt: skip
        process = subprocess.Popen(
            [
                binaries / "postgres", "-D", data, "-k", root, "-c", "listen_addresses=", "-c", "fsync=off",
                "-c", "max_connections=60", "-c", "shared_buffers=32MB",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, cwd=root, **as_user,
        )  # fmt: skip
        try:
            _wait_until_ready(process)
            yield PostgresServer(binaries, root)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    seen = b""
    for line in process.stderr:
        seen += line
        if re.search(rb"database system is ready to accept connections", line):
            _drain(process)
            return
    raise RuntimeError(f"postgres did not start: {seen.decode(errors='replace')}")


def _drain(process: subprocess.Popen[bytes]) -> None:
    """Keeps the server's log from filling its pipe."""
    stream = process.stderr
    assert stream is not None

    def read() -> None:
        with stream:
            while stream.read(65536):
                pass

    threading.Thread(target=read, daemon=True).start()
