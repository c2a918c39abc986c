"""Does a server that works for a long time grow, leak or slow down?

A server runs in a process of its own under a mixed load at low concurrency: sessions with state, single
runs, debug runs, queries, branches, and hostile programs that die in every way they can. Every few seconds
its memory, descriptors, processes and control groups are read. The first part of the time is warm-up: what
is made once is no leak.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.soaking.load import WORKERS, Tally, load, once_of_each
from benchmarks.soaking.sample import Sample, take_sample
from tests.support.server_process import Server, server_process

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


# --- looking at the server -----------------------------------------------------------------------


async def _settled(pid: int, tally: Tally, rest: Sample) -> Sample:
    """After the last sandboxes' ends, and the end of a zygote that had just been replaced for its age."""
    deadline = time.monotonic() + _SETTLE_AT_MOST_SECONDS
    while True:
        await asyncio.sleep(_SETTLE_SECONDS)
        now = take_sample(pid, tally.started)
        if now.processes <= rest.processes or time.monotonic() > deadline:
            return now


async def _watch(pid: int, tally: Tally, samples: list[Sample], *, progress: bool) -> None:
    while True:
        samples.append(await asyncio.to_thread(take_sample, pid, tally.started))
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
        await once_of_each(server.tcp, server.token)
        await asyncio.sleep(_SETTLE_SECONDS)
        rest = take_sample(server.pid, time.monotonic())
        tally = Tally()
        watching = asyncio.create_task(_watch(server.pid, tally, samples, progress=sys.stderr.isatty()))
        await load(server.tcp, server.token, minutes * 60, tally)
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
