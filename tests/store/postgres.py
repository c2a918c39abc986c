"""A PostgreSQL server of the tests' own, on a unix socket, with the binaries of the machine."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED = 65534


def find_binaries() -> Path | None:
    """The folder of initdb and postgres; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@contextmanager
def running_server() -> Iterator[str]:
    """Start a server and give the socket folder to connect to as user `postgres`.

    Its folder is not one of pytest's: those are closed to other users, and the server refuses to be root.
    """
    binaries = find_binaries()
    assert binaries is not None
    with tempfile.TemporaryDirectory(prefix="sandboxd-pg-", ignore_cleanup_errors=True) as directory:
        if os.geteuid() == 0:
            os.chown(directory, UNPRIVILEGED, UNPRIVILEGED)
        data = f"{directory}/data"
        _run([str(binaries / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"])
        control(directory, "start")
        try:
            yield directory
        finally:
            control(directory, "-m", "immediate", "stop")


def control(directory: str, *arguments: str) -> None:
    """Start or stop the server of that folder; waits until it has."""
    binaries = find_binaries()
    assert binaries is not None
    data = f"{directory}/data"
    options = f"-k {directory} -c listen_addresses='' -c fsync=off -c max_connections=60"
    _run([str(binaries / "pg_ctl"), "-D", data, "-w", "-l", f"{directory}/log", "-o", options, *arguments])


def _run(command: list[str]) -> None:
    root = os.geteuid() == 0
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        user=UNPRIVILEGED if root else None,
        group=UNPRIVILEGED if root else None,
        extra_groups=[] if root else None,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
