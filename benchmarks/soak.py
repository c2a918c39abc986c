"""Does a server that works for a long time grow, leak or slow down?

A server runs in a process of its own under a mixed load at low concurrency: sessions with state, single
runs, debug runs, queries, branches, and hostile programs that die in every way they can. Every few seconds
its memory, descriptors, processes and control groups are read. The first part of the time is warm-up: what
is made once is no leak.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandboxd_client import Client, Limits, SandboxdError

from tests.support.server_process import Server, server_process

WORKERS = 3
WARM_UP = 0.25
"""Share of the time that is not looked at."""
SLOPE_BAR_MIB_PER_HOUR = 5.0
NOISE_MIB = 1.5
"""What the memory of a server at work goes up and down by; growth below it can't be told from none."""
P99_BAR = 1.2
_SAMPLE_SECONDS = 2.0
_SETTLE_SECONDS = 5.0
_SETTLE_AT_MOST_SECONDS = 30.0
"""For the ends of the last sandboxes and the pool, in other processes."""

_HOSTILE = (
    "import os; os._exit(1)",
    "import ctypes; ctypes.string_at(0)",
    "blocks = []\nwhile True: blocks.append(bytearray(8 << 20))",
    "import os; os.close(3)\nimport time; time.sleep(9)",
    "import os\nwhile True: os.write(1, bytes(65536))",
    "import threading as t\nfor _ in range(50): t.Thread(target=t.Event().wait, daemon=True).start()",
    "for n in range(50):\n    with open(f'/workspace/{n}', 'wb') as f: f.write(bytes(1 << 20))",
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: break",
    "while True: pass",
    "import socket; socket.create_connection(('10.0.0.1', 80), 1)",
    "raise RecursionError('x' * 10_000_000)",
)


@dataclass(slots=True)
class Sample:
    """What the server holds at a moment."""

    seconds: float
    memory_mib: float
    zygote_mib: float
    descriptors: int
    processes: int
    groups: int


@dataclass(slots=True)
class Tally:
    """What was done and how long the plain executions took."""

    started: float = field(default_factory=time.monotonic)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and what an execution in a live session took."""


# --- the load ------------------------------------------------------------------------------------


async def _session(client: Client, tally: Tally) -> None:
    async with client.create_sandbox(user_id="soak") as sandbox:
        for number in range(20):
            asked = time.monotonic()
            result = await sandbox.execute(f"x = {number}\nx * 2")
            tally.latencies.append((asked - tally.started, time.monotonic() - asked))
            if result.result != number * 2:
                tally.wrong.append(f"session: {result.status} {result.error}")


async def _single(client: Client, tally: Tally) -> None:
    result = await client.quick_execute("import pandas as pd\nint(pd.Series(range(100)).sum())")
    if result.result != 4950:
        tally.wrong.append(f"single: {result.status} {result.error}")


async def _debug(client: Client, tally: Tally) -> None:
    async with client.create_sandbox(user_id="soak", enable_debugging=True) as sandbox:
        steps = 0
        async for _ in sandbox.debug("total = 0\nfor n in range(30):\n    total += n\n"):
            steps += 1
        if steps < 30:
            tally.wrong.append(f"debug: {steps} steps")


async def _query(client: Client, tally: Tally) -> None:
    async with client.create_sandbox(user_id="soak") as sandbox:
        result = await sandbox.execute("rows = await db_query('SELECT * FROM users LIMIT 5')\nlen(rows)")
        if result.result != 5:
            tally.wrong.append(f"query: {result.status} {result.error}")


async def _branch(client: Client, tally: Tally) -> None:
    async with client.create_sandbox(user_id="soak") as sandbox:
        await sandbox.execute("state = list(range(1000))")
        for branch in await sandbox.branches(2):
            async with branch:
                if (await branch.execute("state.append(1)\nlen(state)")).result != 1001:
                    tally.wrong.append("branch: another state")


async def _hostile(client: Client, tally: Tally) -> None:
    limits = Limits(execution_timeout=2)
    async with client.create_sandbox(
        user_id="soak", limits=limits, language_policy="unrestricted"
    ) as sandbox:
        await sandbox.execute(random.choice(_HOSTILE))
        result = await sandbox.execute("6 * 7")
        if result.result != 42:
            tally.wrong.append(f"after a hostile program: {result.status} {result.error}")


_MIX: tuple[tuple[str, Callable[[Client, Tally], Awaitable[None]], int], ...] = (
    ("session", _session, 4),
    ("single", _single, 6),
    ("debug", _debug, 2),
    ("query", _query, 3),
    ("branch", _branch, 1),
    ("hostile", _hostile, 2),
)


async def _load(address: str, token: str, seconds: float, tally: Tally) -> None:
    async with Client.connect(address, token=token) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(_worker(client, tally, seconds))


async def _once_of_each(address: str, token: str) -> None:
    """What is made once, such as connections and workers, is there from now on."""
    tally = Tally()
    async with Client.connect(address, token=token) as client:
        await asyncio.gather(*(work(client, tally) for _, work, _ in _MIX for _ in range(WORKERS)))


async def _worker(client: Client, tally: Tally, seconds: float) -> None:
    names = [name for name, _, weight in _MIX for _ in range(weight)]
    kinds = {name: work for name, work, _ in _MIX}
    while time.monotonic() - tally.started < seconds:
        name = random.choice(names)
        try:
            await kinds[name](client, tally)
        except SandboxdError as error:
            tally.wrong.append(f"{name}: {type(error).__name__}: {error}")
        tally.done[name] += 1


# --- looking at the server -----------------------------------------------------------------------


def _sample(pid: int, started: float) -> Sample:
    below = _descendants(pid)
    zygotes = [child for child in below if b"sandboxd.zygote" in _read(f"/proc/{child}/cmdline")]
    return Sample(
        seconds=time.monotonic() - started,
        memory_mib=_resident_mib(pid),
        zygote_mib=_resident_mib(zygotes[0]) if zygotes else 0.0,
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        processes=len(below),
        groups=sum(len(_names(root)) for root in _group_roots(pid)),
    )


def _group_roots(pid: int) -> list[str]:
    """Where the server's control groups are, one a controller: below its own."""
    found = []
    for line in _read(f"/proc/{pid}/cgroup").decode().splitlines():
        _, controllers, path = line.split(":", 2)
        mounts = {controllers, controllers.split(",")[0]}
        found += [f"/sys/fs/cgroup/{mount}{path}/sandboxd-{pid}" for mount in mounts]
    return found


def _names(directory: str) -> list[str]:
    """What of the guests is in a directory; nothing of one that is gone."""
    try:
        return [name for name in os.listdir(directory) if name.startswith("guest-")]
    except OSError:
        return []


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _resident_mib(pid: int) -> float:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _descendants(pid: int) -> list[int]:
    found = []
    for child in _read(f"/proc/{pid}/task/{pid}/children").split():
        found += [int(child), *_descendants(int(child))]
    return found


async def _settled(pid: int, tally: Tally, rest: Sample) -> Sample:
    """After the last sandboxes' ends, and the end of a zygote that had just been replaced for its age."""
    deadline = time.monotonic() + _SETTLE_AT_MOST_SECONDS
    while True:
        await asyncio.sleep(_SETTLE_SECONDS)
        now = _sample(pid, tally.started)
        if now.processes <= rest.processes or time.monotonic() > deadline:
            return now


async def _watch(pid: int, tally: Tally, samples: list[Sample], *, progress: bool) -> None:
    while True:
        samples.append(await asyncio.to_thread(_sample, pid, tally.started))
        if progress:
            last = samples[-1]
            sys.stderr.write(
                f"\r{last.seconds:5.0f} s  {last.memory_mib:.1f} MiB  {last.descriptors} descriptors  "
                f"{last.processes} processes  {sum(tally.done.values())} done  {len(tally.wrong)} wrong  "
            )
        await asyncio.sleep(_SAMPLE_SECONDS)


def _server(directory: Path) -> AbstractContextManager[Server]:
    return server_process(
        directory,
        log_level="error",
        quotas__cpu_seconds_per_minute="6000",
        max_database_workers="1",  # started as they are needed, which is no growth
    )


# --- the verdict ---------------------------------------------------------------------------------


async def _measure(minutes: float) -> dict[str, Any]:
    samples: list[Sample] = []
    with (
        tempfile.TemporaryDirectory(prefix="sandboxd-soak-") as directory,
        _server(Path(directory)) as server,
    ):
        await _once_of_each(server.tcp, server.token)
        await asyncio.sleep(_SETTLE_SECONDS)
        rest = _sample(server.pid, time.monotonic())
        tally = Tally()
        watching = asyncio.create_task(_watch(server.pid, tally, samples, progress=sys.stderr.isatty()))
        await _load(server.tcp, server.token, minutes * 60, tally)
        if watching.done():
            watching.result()
        watching.cancel()
        end = await _settled(server.pid, tally, rest)
    return _figures(minutes, rest, end, samples, tally)


def _figures(
    minutes: float, rest: Sample, end: Sample, samples: list[Sample], tally: Tally
) -> dict[str, Any]:
    steady = [sample for sample in samples if sample.seconds > WARM_UP * minutes * 60]
    fifth = max(1, len(steady) // 5)
    first, last = steady[:fifth], steady[-fifth:]
    hours = (_median(last, "seconds") - _median(first, "seconds")) / 3600
    growth = _median(last, "memory_mib") - _median(first, "memory_mib")
    times = sorted(tally.latencies)
    tenth = max(1, len(times) // 10)
    return {
        "minutes": minutes,
        "done": dict(sorted(tally.done.items())),
        "wrong": len(tally.wrong),
        "wrong_examples": tally.wrong[:5],
        "memory_at_rest_mib": round(rest.memory_mib, 1),
        "memory_first_mib": round(_median(first, "memory_mib"), 1),
        "memory_last_mib": round(_median(last, "memory_mib"), 1),
        "growth_mib": round(growth, 2),
        "slope_mib_per_hour": round(growth / hours, 1),
        "zygote_mib": [round(_median(first, "zygote_mib"), 1), round(_median(last, "zygote_mib"), 1)],
        "descriptors": [rest.descriptors, end.descriptors],
        "processes": [rest.processes, end.processes],
        "groups": [rest.groups, end.groups],
        "p99_first_ms": round(_p99([took for _, took in times[:tenth]]) * 1000, 2),
        "p99_last_ms": round(_p99([took for _, took in times[-tenth:]]) * 1000, 2),
    }


def _median(samples: list[Sample], name: str) -> float:
    return float(statistics.median(getattr(sample, name) for sample in samples))


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


def check(found: dict[str, Any]) -> list[str]:
    """What grows, and what else is wrong."""
    missed = []
    if found["wrong"]:
        missed.append(f"{found['wrong']} came back wrong, such as {found['wrong_examples'][:1]}")
    if found["growth_mib"] > NOISE_MIB and found["slope_mib_per_hour"] > SLOPE_BAR_MIB_PER_HOUR:
        missed.append(
            f"memory grows by {found['slope_mib_per_hour']} MiB an hour; the bar is {SLOPE_BAR_MIB_PER_HOUR}"
        )
    for name, spare in (("descriptors", 4), ("processes", 0), ("groups", 0)):
        before, after = found[name]
        if after > before + spare:  # connections of the history's database are made as they are needed
            missed.append(f"{name}: {before} before, {after} after")
    if found["p99_last_ms"] > P99_BAR * found["p99_first_ms"]:
        missed.append(
            f"p99 of the last tenth is {found['p99_last_ms']} ms, of the first {found['p99_first_ms']} ms; "
            f"the bar is {P99_BAR} times"
        )
    return missed


def _print(found: dict[str, Any]) -> None:
    print(f"{found['minutes']:g} minutes, {WORKERS} workers: {found['done']}, {found['wrong']} wrong")
    print(f"{'memory at rest / first / last fifth':<40}", end="")
    print(f"{found['memory_at_rest_mib']} / {found['memory_first_mib']} / {found['memory_last_mib']} MiB")
    print(f"{'memory slope':<40}{found['slope_mib_per_hour']} MiB an hour ({found['growth_mib']} MiB seen)")
    print(f"{'zygote, first / last fifth':<40}{found['zygote_mib'][0]} / {found['zygote_mib'][1]} MiB")
    for name in ("descriptors", "processes", "groups"):
        print(f"{name + ' at rest, before / after':<40}{found[name][0]} / {found[name][1]}")
    print(f"{'p99, first / last tenth':<40}{found['p99_first_ms']} / {found['p99_last_ms']} ms")


def main() -> int:
    """Measures and prints; 1 when something grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; default 10")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    found = asyncio.run(_measure(arguments.minutes))
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if arguments.json:
        print(json.dumps(found))
    else:
        _print(found)
    missed = check(found)
    for line in missed:
        print(f"GROWS {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
