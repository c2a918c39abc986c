"""A PostgreSQL server of the tests' own, on a unix socket, with the binaries of the machine."""

import os
import shutil
import subprocess
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
def running_server(directory: Path) -> Iterator[str]:
    """Start a server and give the socket folder to connect to as user `postgres`."""
    binaries = find_binaries()
    assert binaries is not None
    data = directory / "data"
    if os.geteuid() == 0:
        # The server refuses to be root, and needs to walk to its folder.
        os.chown(directory, UNPRIVILEGED, UNPRIVILEGED)
        for parent in directory.parents:
            if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    _run([str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"])
    options = f"-k {directory} -c listen_addresses='' -c fsync=off -c max_connections=60"
    control = [str(binaries / "pg_ctl"), "-D", str(data), "-w"]
    _run([*control, "-l", str(directory / "log"), "-o", options, "start"])
    try:
        yield str(directory)
    finally:
        _run([*control, "-m", "immediate", "stop"])


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
