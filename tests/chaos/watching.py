"""What cases do over and over: wait, count what runs, find and end processes."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from sandboxd_api.v1 import sandbox_service_pb2, statistics_pb2

from tests.chaos.ledger import Ledger
from tests.chaos.model import Watch
from tests.support.leftovers import Leftovers, settled, wait_until
from tests.support.serving import Serving, descendants, health_of, serving

_PATIENCE_SECONDS = 60.0
"""How long to wait for what is far over its bar, so that the figure can be told."""


@contextlib.contextmanager
def checked_server(watch: Watch, **settings: object) -> Iterator[tuple[Serving, Ledger]]:
    """A server for one case; the invariants are checked at the end, against what it held at the start."""
    with serving(**settings) as server:  # type: ignore[arg-type]  # settings are checked by the server
        ledger = Ledger()
        before = at_rest(server)
        yield server, ledger
        ledger.check(watch, server, before)
        watch.expect(server.process.poll() is None, "the server ended")
        server.channel.close()


def at_rest(server: Serving) -> Leftovers:
    """What a server holds once everything was done for a first time."""
    sandbox = server.create()
    server.run(sandbox, "try:\n    await db_tables()\nexcept Exception:\n    pass")
    server.delete(sandbox)
    server.quick("1")
    return settled(server.pid, seconds=30)


def running_count(server: Serving) -> int:
    """Executions that run."""
    return int(_statistics(server).running_execution_count)


def queued_count(server: Serving) -> int:
    """Executions that wait."""
    return int(_statistics(server).queued_execution_count)


def _statistics(server: Serving) -> statistics_pb2.Statistics:
    request = sandbox_service_pb2.GetStatisticsRequest()
    return server.sandboxes.GetStatistics(request, metadata=server.metadata, timeout=60).statistics


def is_serving(server: Serving) -> bool:
    """Whether health says so; False also when nobody answers."""
    try:
        return health_of(server) == "SERVING"
    except grpc.RpcError:
        return False


def until(condition: Callable[[], bool], *, what: str, seconds: float = _PATIENCE_SECONDS) -> float:
    """Seconds until `condition` holds."""
    return wait_until(condition, seconds=seconds, what=what)


def until_running(server: Serving, count: int) -> float:
    """Seconds until exactly so many executions run."""
    return until(lambda: running_count(server) == count, what=f"{count} run")


def until_gone(pids: list[int]) -> float:
    """Seconds until none of these processes is alive."""
    return until(lambda: not any(alive(pid) for pid in pids), what=f"{len(pids)} processes are gone")


def since(moment: float) -> float:
    """Seconds since a reading of time.monotonic()."""
    return time.monotonic() - moment


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signals a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def family_of(server: Serving) -> list[int]:
    """Every process below the server, and the server."""
    return [server.pid, *descendants(server.pid)]


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
