"""What a call costs: gRPC itself, a run in a live session, a fresh sandbox for one run, many clients at once.

    python -m benchmarks.latency [--json] [--check] [--quick]

Everything is measured in turns in one run, from a client in a process of its own, and stands beside a gRPC
echo server of the same library: on a busy machine compare the ratios, not the milliseconds.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from benchmarks.calls.caller import CODE, Caller
from benchmarks.calls.echo import METHOD, echo_process
from tests.support.server_process import Server, server_process
from tests.support.serving import descendants

_PAUSE_SECONDS = 0.03
"""After an execution the session's state is kept and the pool refilled; a client that thinks does not notice,
one that does not waits, which is measured too."""
_SETTLE_SECONDS = 5.0
"""After the start the database workers go on loading for some seconds."""
_MIB = 1024 * 1024
_IDLE_SANDBOXES = 200


@dataclass(frozen=True)
class Figure:
    """One line of the table: milliseconds, calls a second or MiB."""

    name: str
    unit: str
    median: float
    high: float | None = None
    """99th percentile."""
    bar: float | None = None
    high_bar: float | None = None
    more_is_better: bool = False
    ratio_to_echo: float | None = None

    def missed(self) -> list[str]:
        """The bars this falls short of."""
        found = []
        if self.bar is not None and (
            self.median < self.bar if self.more_is_better else self.median > self.bar
        ):
            found.append(f"{self.name}: {self.median:.2f} {self.unit}, the bar is {self.bar:g}")
        if self.high_bar is not None and self.high is not None and self.high > self.high_bar:
            found.append(f"{self.name}: p99 {self.high:.2f} {self.unit}, the bar is {self.high_bar:g}")
        return found


@dataclass
class Samples:
    """Milliseconds by what was measured."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    async def time(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        """Measures one call."""
        start = time.perf_counter()
        await call()
        self.taken.setdefault(name, []).append((time.perf_counter() - start) * 1e3)

    def figure(
        self,
        name: str,
        *,
        bar: float | None = None,
        high_bar: float | None = None,
        echo: str = "gRPC echo, TCP",
    ) -> Figure:
        """Median and 99th percentile of what was taken."""
        values = sorted(self.taken[name])
        median = statistics.median(values)
        high = values[min(len(values) - 1, int(len(values) * 0.99))] if len(values) >= 20 else None
        ratio = median / statistics.median(self.taken[echo])
        return Figure(name, "ms", median, high, bar, high_bar, ratio_to_echo=ratio)


# --- what is measured --------------------------------------------------------------------------


async def single_calls(server: Server, echo: tuple[str, str], *, rounds: int) -> list[Figure]:
    """One client, one call after the other, every kind in each round."""
    tcp, unix = Caller(server.tcp, server.token), Caller(server.unix, server.token)
    echoes = [grpc.aio.insecure_channel(target).unary_unary(METHOD) for target in echo]
    await asyncio.sleep(_SETTLE_SECONDS)
    sandbox = await tcp.create()
    samples = Samples()
    for caller in (tcp, unix):
        await caller.run(sandbox)
    for each in echoes:
        await each(b"x" * 100)
    for number in range(rounds):
        await samples.time("gRPC echo, TCP", lambda: echoes[0](b"x" * 100))
        await samples.time("gRPC echo, unix socket", lambda: echoes[1](b"x" * 100))
        await samples.time("execution in a live session, TCP", lambda: tcp.run(sandbox))
        await asyncio.sleep(_PAUSE_SECONDS)
        await samples.time("execution in a live session, unix socket", lambda: unix.run(sandbox))
        await samples.time("execution right behind another, TCP", lambda: tcp.run(sandbox))
        await asyncio.sleep(_PAUSE_SECONDS)
        await samples.time("QuickExecute, guest from the pool", tcp.quick)
        await asyncio.sleep(_PAUSE_SECONDS)
        if number % 4 == 0:
            await samples.time("QuickExecute, guest made for it", lambda: tcp.quick(cold=True))
        if number % (rounds // 5) == 0:
            await samples.time("python3 -I -c 'print(1+1)'", lambda: _process("-I", "-c", CODE))
            await samples.time("python3 -c 'import pandas'", lambda: _process("-c", "import pandas"))
    await tcp.delete(sandbox)
    bars: dict[str, tuple[float | None, float | None]] = {
        "execution in a live session, TCP": (1.0, None),
        "execution in a live session, unix socket": (0.8, None),
        "QuickExecute, guest from the pool": (1.5, 10.0),
    }
    for caller in (tcp, unix):
        await caller.channel.close()
    return [
        samples.figure(name, bar=bars.get(name, (None, None))[0], high_bar=bars.get(name, (None, None))[1])
        for name in samples.taken
    ]


async def _process(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0


async def sustained(server: Server, *, clients: int, calls: int, bar: float | None) -> list[Figure]:
    """Every call a fresh sandbox, `clients` connections each waiting for its answer."""
    callers = [Caller(server.tcp, server.token) for _ in range(clients)]
    left = iter(range(calls))
    times: list[float] = []
    lost: list[str] = []

    async def client(caller: Caller) -> None:
        for _ in left:
            start = time.perf_counter()
            try:
                async with asyncio.timeout(60):
                    await caller.quick()
            except (grpc.aio.AioRpcError, TimeoutError, AssertionError) as error:
                lost.append(f"{type(error).__name__} {error}"[:200])
            times.append((time.perf_counter() - start) * 1e3)

    start = time.perf_counter()
    await asyncio.gather(*(client(caller) for caller in callers))
    seconds = time.perf_counter() - start
    await asyncio.gather(*(caller.channel.close() for caller in callers))
    name = f"QuickExecute, {clients} client{'s' if clients > 1 else ''}"
    times.sort()
    return [
        Figure(f"{name}: a second", "/s", calls / seconds, bar=bar, more_is_better=True),
        Figure(f"{name}: time of a call", "ms", statistics.median(times), times[int(len(times) * 0.99)]),
        Figure(f"{name}: hung or lost of {calls}", "", len(lost), bar=0),
    ]


async def idle_memory(server: Server) -> Figure:
    """What 200 sandboxes that have run something take, shared pages counted once in all."""
    caller = Caller(server.tcp, server.token)
    before = _proportional(server.pid)
    sandboxes = [await caller.create() for _ in range(_IDLE_SANDBOXES)]
    for sandbox in sandboxes:
        await caller.run(sandbox)
    taken = _proportional(server.pid) - before
    for sandbox in sandboxes:
        await caller.delete(sandbox)
    await caller.channel.close()
    return Figure(f"memory of {_IDLE_SANDBOXES} idle sandboxes", "MiB", taken / _MIB, bar=500)


def _proportional(pid: int) -> int:
    """Proportional set size of all processes below the server, and of the server."""
    total = 0
    for member in (pid, *descendants(pid)):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


async def measure(directory: Path, *, quick: bool) -> list[Figure]:
    """All figures."""
    rounds, calls = (40, 100) if quick else (200, 600)
    settings = {"pool_size": "16", "quotas__sandboxes": "1000", "quotas__parallel_executions": "128"}
    with server_process(directory, **settings) as server, echo_process(directory) as echo:
        figures = await single_calls(server, echo, rounds=rounds)
        for clients in (1, 8, 128):
            count = calls if clients < 128 else (calls if quick else 10_000)
            figures += await sustained(
                server, clients=clients, calls=count, bar=200 if clients == 8 else None
            )
        figures.append(await idle_memory(server))
    return figures


# --- the table ---------------------------------------------------------------------------------


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def _as_dict(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "median": round(figure.median, 3),
        "p99": None if figure.high is None else round(figure.high, 3),
        "ratio_to_echo": None if figure.ratio_to_echo is None else round(figure.ratio_to_echo, 2),
        "bar": figure.bar,
        "p99_bar": figure.high_bar,
    }


def _print(figures: list[Figure], machine: dict[str, Any]) -> None:
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'':<48}{'median':>10}{'p99':>10}{'x echo':>9}{'bar':>8}")
    for figure in figures:
        high = "" if figure.high is None else f"{figure.high:.2f}"
        ratio = "" if figure.ratio_to_echo is None else f"{figure.ratio_to_echo:.1f}"
        bar = "" if figure.bar is None else f"{figure.bar:g}"
        print(f"{figure.name:<48}{figure.median:>10.2f}{high:>10}{ratio:>9}{bar:>8} {figure.unit}")


def main() -> int:
    """Measures and prints; with `--check` 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1, naming each bar that is missed")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
    arguments = parser.parse_args()
    machine = _machine()
    with tempfile.TemporaryDirectory(prefix="sandboxd-bench-") as directory:
        figures = asyncio.run(measure(Path(directory), quick=arguments.quick))
    if arguments.json:
        print(json.dumps({"machine": machine, "figures": [_as_dict(figure) for figure in figures]}))
    else:
        _print(figures, machine)
    missed = [line for figure in figures for line in figure.missed()] if arguments.check else []
    for line in missed:
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
