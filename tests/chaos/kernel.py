"""Rows N to Q: clocks that jump, forks and groups that fail, memory that ends, process ids used again."""

import contextlib
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from sandboxd_api.v1 import sandbox_pb2, sandbox_service_pb2

from tests.chaos.ledger import Ledger
from tests.chaos.model import Bar, Case, NotRun, Watch
from tests.chaos.watching import checked_server, resident_bytes, since, until, until_running
from tests.support.leftovers import cgroup_roots
from tests.support.serving import Answer, Serving, serving_as_pid_1

# --- N: clocks that jump -------------------------------------------------------------------------

_HOUR = 3600
_JUMPS: dict[str, float] = {"+1 h": _HOUR, "-1 h": -_HOUR, "+10 years": 10 * 365 * 24 * _HOUR}


class _Clock:
    """The wall clock of one server."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.set(0)
        library = directory / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    def set(self, seconds: float, *, frozen: bool = False) -> None:
        """From now on it is off by so much, and stands still if so said."""
        data = struct.pack("=qq", round(seconds * 1e9), time.time_ns() if frozen else 0)
        if not self._file.exists():
            self._file.write_bytes(data)
        with self._file.open("r+b") as file:
            file.write(data)


def _clock_jumps(watch: Watch, kind: str) -> None:
    if shutil.which("cc") is None:
        raise NotRun("no C compiler: the server's wall clock is set by a preloaded library")
    with tempfile.TemporaryDirectory(prefix="sandboxd-chaos-") as directory:
        clock = _Clock(Path(directory))
        with checked_server(watch, environment=clock.environment) as (server, ledger):
            for _ in watch.rounds():
                clock.set(0)
                _one_jump(
                    watch, server, ledger, lambda: clock.set(_JUMPS.get(kind, 0), frozen=kind == "frozen")
                )
            clock.set(0)


def _one_jump(watch: Watch, server: Serving, ledger: Ledger, jump: Callable[[], None]) -> None:
    kept, short, lasting = server.create(), server.create(), server.create()
    dying = server.create(idle_timeout=2)
    ends = ledger.begin_endless(server, short, seconds=2)
    lasts = ledger.begin(server, lasting, "import time; time.sleep(1.5)", seconds=30)
    until_running(server, 2)
    idle_since = time.monotonic()
    jump()
    lasts.expect(watch, "SUCCEEDED", when="killed early")
    ends.expect_timeout(watch, 2, when="at its limit")
    until(lambda: not _exists(server, dying), what="the idle sandbox expires")
    watch.measure("expired late", max(0.0, since(idle_since) - 2))
    watch.expect(since(idle_since) > 1.5, f"expired after {since(idle_since):.1f} s instead of 2")
    watch.expect(_exists(server, kept), "a sandbox with 15 minutes to live expired")
    for sandbox in (kept, short, lasting):
        server.delete(sandbox)


def _exists(server: Serving, sandbox: str) -> bool:
    request = sandbox_service_pb2.GetSandboxRequest(sandbox_id=sandbox)
    found = server.sandboxes.GetSandbox(request, metadata=server.metadata, timeout=20).sandbox
    return bool(found.state == sandbox_pb2.Sandbox.STATE_ACTIVE)


# --- O: forks, descriptors and groups that fail --------------------------------------------------


def _refused_then_well(
    watch: Watch, fault: Callable[[Serving], contextlib.AbstractContextManager[None]]
) -> None:
    """While the fault lasts new sandboxes are refused in words; afterwards they are made again by itself."""
    with checked_server(watch, pool_size=0) as (server, ledger):
        living = server.create()
        for _ in watch.rounds():
            with fault(server):
                codes = {_created(server) for _ in range(4)}
                said = codes - {"made"}
                allowed = {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}
                watch.expect(bool(said) and said <= allowed, f"while it lasts: {codes}")
            with watch.timed("recovered"):
                until(lambda: _created(server) == "made", what="sandboxes are made again")
            state = ledger.execute(server, living, "print(1)").state
            watch.expect(state == "SUCCEEDED", f"a living sandbox afterwards: {state}")
        server.delete(living)


def _created(server: Serving) -> str:
    try:
        server.delete(server.create())
    except grpc.RpcError as error:
        return error.code().name
    return "made"


@contextlib.contextmanager
def _no_forks(server: Serving) -> Iterator[None]:
    """The zygote is in a control group that is full of processes: fork(2) fails with EAGAIN."""
    zygote = server.zygote_pid
    home = _pids_group(zygote)
    full = home / f"chaos-{server.pid}"
    full.mkdir()
    try:
        (full / "pids.max").write_text("1")
        (full / "cgroup.procs").write_text(str(zygote))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            (home / "cgroup.procs").write_text(str(zygote))
        full.rmdir()


def _pids_group(pid: int) -> Path:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        root = Path(f"/sys/fs/cgroup/{controllers}{path}")
        limits_processes = controllers == "pids" or (
            not controllers and "pids" in (root / "cgroup.subtree_control").read_text()
        )
        if limits_processes and os.access(root, os.W_OK):
            return root
    raise NotRun("no control group for the number of processes on this machine")


@contextlib.contextmanager
def _no_descriptors(server: Serving) -> Iterator[None]:
    """The server may open no more files: EMFILE."""
    used = max(int(name) for name in os.listdir(f"/proc/{server.pid}/fd")) + 2
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def _no_groups(server: Serving) -> Iterator[None]:
    """The next control groups are there already: mkdir(2) fails."""
    roots = cgroup_roots(server.pid)
    if not roots:
        raise NotRun("no control groups on this machine")
    numbers = [int(group.name.removeprefix("guest-")) for group in roots[0].glob("guest-*")]
    taken = [roots[0] / f"guest-{max(numbers, default=0) + 1 + ahead}" for ahead in range(200)]
    for group in taken:
        group.mkdir()
    try:
        yield
    finally:
        for group in taken:
            with contextlib.suppress(OSError):
                group.rmdir()


# --- P: memory that ends -------------------------------------------------------------------------

_BOMB = """
with open('/workspace/full', 'wb') as file:
    file.write(bytes(15 << 20))
blocks = []
while True:
    blocks.append(bytearray(8 << 20))
"""
_BOMBS = 4


def _memory_bombs(watch: Watch) -> None:
    with checked_server(watch) as (server, ledger):
        bystander = server.create()
        ledger.execute(server, bystander, "x = 42")
        rest = resident_bytes(server.pid)
        for _ in watch.rounds():
            bombers = [server.create() for _ in range(_BOMBS)]
            flights = [ledger.begin(server, one, _BOMB, seconds=20, endless=True) for one in bombers]
            for flight in flights:
                told = flight.answer()
                ended = told.failure if isinstance(told, Answer) else told.code().name
                watch.expect(ended == "OUT_OF_MEMORY", f"a memory bomb ended with {ended}")
            still = ledger.execute(server, bystander, "print(x)").stdout
            watch.expect(still.endswith("42"), "a bystander's session was lost")
            watch.expect(server.process.poll() is None, "the server was killed")
            for one in bombers:
                server.delete(one)
        watch.measure("server grew", (resident_bytes(server.pid) - rest) / (1 << 20))
        server.delete(bystander)


# --- Q: process ids used again -------------------------------------------------------------------

_PIDS = 600


def _reused_pids(watch: Watch) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise NotRun("a pid namespace of its own can be made by root only")
    with tempfile.TemporaryDirectory(prefix="sandboxd-chaos-") as directory:
        report = Path(directory) / "bystanders"
        bystanders = f"{sys.executable} {Path(__file__).with_name('bystanders.py')} {report}"
        script = f"echo {_PIDS} > /proc/sys/kernel/pid_max && ({bystanders} &)"
        most = Path("/proc/sys/kernel/pid_max").read_text()
        with serving_as_pid_1(script) as server:
            watch.expect(
                most == Path("/proc/sys/kernel/pid_max").read_text(), "pid_max of the machine changed"
            )
            ledger = Ledger()
            for _ in watch.rounds():
                state = ledger.quick(server, "1").state
                watch.expect(state == "SUCCEEDED", f"a short run: {state}")
            ledger.check(watch, server, None)
            seen, signalled = map(int, report.read_text().split())
            server.channel.close()
        watch.measure("strangers signalled", signalled)
        watch.remark(
            f"{seen} strangers came and went among {_PIDS} process ids, in a pid namespace of their own with "
            f"the server: each id was used some {(seen + watch.done) // _PIDS} times"
        )


def _jump(kind: str) -> Case:
    return Case(
        row="N",
        what=f"the wall clock: {kind}",
        rounds=10,
        quick_rounds=1,
        bars=(Bar(name="over its limit", most=1.0), Bar(name="expired late", most=3.0)),
        run=lambda watch: _clock_jumps(watch, kind),
    )


def _fault(what: str, fault: Callable[[Serving], contextlib.AbstractContextManager[None]]) -> Case:
    return Case(
        row="O",
        what=what,
        rounds=50,
        quick_rounds=5,
        bars=(Bar(name="recovered", most=5.0),),
        run=lambda watch: _refused_then_well(watch, fault),
    )


CASES = (
    *(_jump(kind) for kind in (*_JUMPS, "frozen")),
    _fault("fork fails", _no_forks),
    _fault("no descriptor is free", _no_descriptors),
    _fault("a control group can't be made", _no_groups),
    Case(
        row="P", what="four memory bombs at once", rounds=50, quick_rounds=3,
        bars=(Bar(name="server grew", most=32.0, unit="MiB"),),
        run=_memory_bombs,
    ),
    Case(
        row="Q", what="process ids used again", rounds=40_000, quick_rounds=1500,
        bars=(Bar(name="strangers signalled", most=0.0, unit=""),),
        run=_reused_pids,
    ),
)  # fmt: skip
