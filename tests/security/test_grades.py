"""The same attacks where layers are missing: what still holds, and what is refused below the floor."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.control import unconfined
from tests.support.serving import ServerRefused, Serving, serving

_NO_NAMESPACES = {"without_layers": ["namespaces", "cgroups"], "minimum_grade": "NO_NAMESPACES"}
_UID = 20_000
_GRADES = {
    "root_without_cgroups": {"without_layers": ["cgroups"]},
    "root_without_namespaces": {**_NO_NAMESPACES, "readable": True},
    "user_with_namespaces": {"uid": _UID},
    "user_without_namespaces": {**_NO_NAMESPACES, "uid": _UID},
}


@pytest.fixture(scope="module", params=list(_GRADES))
def graded(request: pytest.FixtureRequest) -> Iterator[Serving]:
    with serving(**_GRADES[request.param]) as server:
        yield server


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory of the server's user where everyone may enter."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as name:
        os.chmod(name, 0o755)
        os.chown(name, _UID, _UID)
        yield Path(name)


def _refused(server: Serving, attempt: str) -> str:
    """The exception that `attempt` ends with."""
    answer = server.quick(f"import ctypes, os, socket\n{attempt}")
    assert answer.failure == "EXCEPTION", answer.describe()
    return answer.result.failure.type_name.rpartition(".")[2]


def test_a_program_runs(graded: Serving) -> None:
    code = (
        "import asyncio, threading\nimport numpy as np, pandas as pd\n"
        "await asyncio.sleep(0)\n"
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "print(pd.DataFrame({'a': np.arange(3)})['a'].sum())"
    )
    assert graded.output(code).split() == ["thread", "3"]


def test_the_hosts_files_cannot_be_read(graded: Serving, open_directory: Path) -> None:
    secret = open_directory / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    os.chown(secret, _UID, _UID)
    assert _refused(graded, f"open({str(secret)!r}).read()") in ("FileNotFoundError", "PermissionError")
    assert unconfined(f"print(open({str(secret)!r}).read())") == "secret"


@pytest.mark.parametrize(
    "change",
    ["os.chmod(path, 0o777)", "os.utime(path)", "os.chown(path, -1, -1)", "os.truncate(path, 0)",
     "open(path, 'a')", "os.unlink(path)", "os.link(path, path + '2')", "os.rename(path, path + '2')"],
)  # fmt: skip
def test_the_hosts_files_cannot_be_changed(graded: Serving, open_directory: Path, change: str) -> None:
    """Landlock alone would let a guest with the server's user id change modes and times."""
    victim = open_directory / "victim"
    victim.write_text("kept")
    os.chown(victim, _UID, _UID)
    before = victim.stat()
    refused = _refused(graded, f"path = {str(victim)!r}\n{change}")
    assert refused in ("FileNotFoundError", "PermissionError", "OSError")
    after = victim.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, 1)
    assert victim.read_text() == "kept"
    unconfined(f"import os\npath = {str(victim)!r}\n{change}")


def test_a_unix_socket_of_the_host_is_out_of_reach(graded: Serving, open_directory: Path) -> None:
    """Behind a socket file there may be a service manager or a container engine: the end of any sandbox."""
    path = str(open_directory / "socket")
    with (
        socket.socket(socket.AF_UNIX) as stream,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
    ):
        stream.bind(path)
        stream.listen()
        datagram.bind(path + "2")
        datagram.settimeout(0.2)
        for name in (path, path + "2"):
            os.chmod(name, 0o777)
        _refused(graded, f"socket.socket(socket.AF_UNIX).connect({path!r})")
        pair = "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        _refused(graded, f"{pair}a.sendto(b'x', {path + '2'!r})")
        _refused(graded, f"a, b = socket.socketpair()\na.sendto(b'x', {path + '2'!r})")
        with pytest.raises(TimeoutError):
            datagram.recv(1)
        unconfined(f"import socket\nsocket.socket(socket.AF_UNIX).connect({path!r})")
        unconfined(f"import socket\n{pair}a.sendto(b'x', {path + '2'!r})")
        assert datagram.recv(1) == b"x"


def test_an_abstract_socket_of_the_host_is_out_of_reach(graded: Serving) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0sandboxd-test-grades")
        listener.listen()
        _refused(graded, "socket.socket(socket.AF_UNIX).connect('\\0sandboxd-test-grades')")


def test_the_servers_memory_and_environment_are_out_of_reach(graded: Serving) -> None:
    for name in ("mem", "environ", "maps", "cmdline", "fd/0"):
        _refused(graded, f"open('/proc/{graded.pid}/{name}', 'rb')")
    assert unconfined(f"print(len(open('/proc/{os.getpid()}/environ', 'rb').read()) > 0)") == "True"


def test_the_server_is_not_signalled(graded: Serving) -> None:
    for attempt in (
        f"os.kill({graded.pid}, 9)",
        "os.kill(-1, 9)",
        "os.kill(0, 9)",
        "os.kill(os.getppid(), 9)",
        f"import fcntl\na, b = os.pipe()\nfcntl.fcntl(a, fcntl.F_SETOWN, {graded.pid})",
    ):
        assert _refused(graded, attempt) == "PermissionError"
    assert graded.process.poll() is None


def test_no_network_no_fork_no_program(graded: Serving) -> None:
    for attempt in (
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
        "socket.create_connection(('127.0.0.1', 80))",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "import mmap\nmmap.mmap(-1, 1 << 20)",
    ):
        _refused(graded, attempt)


def test_nothing_is_writable_outside_the_workspace(graded: Serving) -> None:
    for path in ("/tmp/x", "/dev/shm/x", "/var/tmp/x", "/x"):
        _refused(graded, f"open({path!r}, 'w')")


def test_too_many_threads_are_not_had(graded: Serving) -> None:
    answer = graded.quick(
        "import threading, time\n"
        "stop = threading.Event(); started = 0\n"
        "try:\n"
        "    for _ in range(60): threading.Thread(target=stop.wait, daemon=True).start(); started += 1\n"
        "except RuntimeError: pass\n"
        "end = time.monotonic() + 2\n"
        "while time.monotonic() < end: pass\n"
        "print(started)"
    )
    if answer.state == "SUCCEEDED":
        assert answer.stdout == "10"
    else:
        assert "more than 10 threads" in answer.result.failure.message


def test_a_busy_guest_is_held_to_its_share(graded: Serving) -> None:
    answer = graded.quick("import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass")
    assert answer.cpu_seconds / answer.wall_seconds < 0.57


def test_memory_is_held(graded: Serving) -> None:
    answer = graded.quick("x = bytearray(1 << 30)")
    assert answer.failure == "OUT_OF_MEMORY", answer.describe()


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"minimum_grade": "FULL", "without_layers": ["cgroups"]}, "grade NO_CGROUP"),
        ({"without_layers": ["namespaces"]}, "namespaces"),
        ({"minimum_grade": "NO_NAMESPACES", "without_layers": ["namespaces", "landlock"]}, "landlock"),
        ({"minimum_grade": "NO_NAMESPACES", "without_layers": ["seccomp"]}, "seccomp"),
        ({"minimum_grade": "NO_NAMESPACES", "without_layers": ["user_namespace", "user_ids"]}, "user_ids"),
        ({"uid": _UID, "minimum_grade": "FULL"}, "cgroups"),
    ],
)
def test_below_the_floor_the_server_does_not_start_and_says_what_to_do(
    settings: dict[str, object], needed: str
) -> None:
    with pytest.raises(ServerRefused) as refused, serving(**settings):  # type: ignore[arg-type]
        pass
    said = str(refused.value)
    assert "no untrusted code will be run" in said
    assert needed in said
    assert "fix:" in said
