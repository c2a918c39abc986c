"""What keeping, restoring and branching sessions costs, beside the same without and beside starting anew.

    python -m benchmarks.sessions [--json] [--check] [--only overhead,restore,branch,hundred]

A real server, one client, one call at a time; what is compared is measured in turns. `--check` exits with 1
when a bar is missed. The bars are for a machine with nothing else to do.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from sandboxd_api.v1 import sandbox_service_pb2

from tests.support.serving import Serving, serving, wait_for_pool
from tests.support.sessions import Sandbox, sandbox

_MIB = 1 << 20
_PAUSE_SECONDS = 0.03
"""What a caller takes to read an answer; an agent takes seconds."""
_NUMPY = "import numpy as np\nstate = np.ones({mib} << 17)"
_OBJECTS = "state = [str(number) for number in range({mib} * 13_000)]"
_CRASH = "import os; os._exit(1)"
_STATES = {
    "100 MB numpy": _NUMPY.format(mib=100),
    "1 GB numpy": _NUMPY.format(mib=1024),
    "200 MB of small objects": _OBJECTS.format(mib=200),
}


@dataclass(frozen=True)
class Figure:
    """One line of the table; `bar` is for `median`, None where there is none."""

    name: str
    median: float
    p99: float
    unit: str
    beside: str = ""
    """What it is compared with, and its figure."""
    bar: float | None = None

    @property
    def missed(self) -> bool:
        return self.bar is not None and self.median > self.bar


def main() -> int:
    """Prints a table or JSON; 1 when `--check` finds a bar missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", default="overhead,restore,branch,hundred")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    parts: dict[str, Callable[[Serving, int], Iterator[Figure]]] = {
        "overhead": _overhead,
        "restore": _restore,
        "branch": _branch,
        "hundred": _hundred,
    }
    figures = []
    highest = {"memory_bytes": 4096 * _MIB}
    with serving(pool_size=4, maximum_limits=highest) as server:
        for part in options.only.split(","):
            for figure in parts[part](server, options.rounds):
                figures.append(figure)
                if not options.json:
                    print(_line(figure), flush=True)
    if options.json:
        print(json.dumps([asdict(figure) | {"missed": figure.missed} for figure in figures], indent=2))
    return 1 if options.check and any(figure.missed for figure in figures) else 0


def _overhead(server: Serving, rounds: int) -> Iterator[Figure]:
    """An execution in a session of 50 MB, with and without kept states."""
    with ExitStack() as stack:
        kept = stack.enter_context(sandbox(server))
        plain = stack.enter_context(sandbox(server, checkpoints=False))
        for one in (kept, plain):
            one.run(_NUMPY.format(mib=50) + "\nx = 0")
            one.settled()
        for name, code, pause, bar in (
            ("an execution with a pause before it", "x += 1", _PAUSE_SECONDS, 1.10),
            ("an execution at once after another", "x += 1", 0.0, None),
            ("writing all 50 MB after a state was kept", "state += 1", _PAUSE_SECONDS, None),
        ):
            with_states, without = _in_turns(
                rounds, lambda code=code: _timed(kept, code), lambda code=code: _timed(plain, code), pause
            )
            ratio = statistics.median(with_states) / statistics.median(without)
            yield _figure(f"{name}", with_states, beside=f"without states {_ms(without)}")
            yield Figure(f"{name}: ratio", ratio, ratio, "times", bar=bar)


def _restore(server: Serving, rounds: int) -> Iterator[Figure]:
    """From a crash to the answer, which says that the old state is back: above an execution that succeeds."""
    for state, bar in (("100 MB numpy", 5.0), ("1 GB numpy", 20.0), ("200 MB of small objects", None)):
        with sandbox(server, memory_bytes=3072 * _MIB, limits_memory=3072 * _MIB) as one:
            begin = time.perf_counter()
            one.run(_STATES[state])
            anew = (time.perf_counter() - begin) * 1000
            one.settled()
            crashed, plain = _in_turns(
                rounds, lambda one=one: _timed(one, _CRASH), lambda one=one: _timed(one, "1"), _PAUSE_SECONDS
            )
            above = [value - statistics.median(plain) for value in crashed]
            yield _figure(
                f"crash to restored, {state}", above, beside=f"again from code {anew:.0f} ms", bar=bar
            )


def _branch(server: Serving, rounds: int) -> Iterator[Figure]:
    """One branch, from the call to its answer."""
    for state, bar in (("100 MB numpy", 6.0), ("200 MB of small objects", 15.0)):
        with sandbox(server, limits_memory=1024 * _MIB) as one:
            begin = time.perf_counter()
            one.run(_STATES[state])
            anew = (time.perf_counter() - begin) * 1000
            one.settled()
            times = []
            for _ in range(rounds):
                time.sleep(_PAUSE_SECONDS)
                begin = time.perf_counter()
                (branch,) = one.branches()
                times.append((time.perf_counter() - begin) * 1000)
                branch.delete()
            yield _figure(f"a branch, {state}", times, beside=f"again from code {anew:.0f} ms", bar=bar)


def _hundred(server: Serving, rounds: int) -> Iterator[Figure]:
    """A hundred branches in one call, and what each of them holds."""
    times, sizes = [], []
    for _ in range(max(3, rounds // 20)):
        wait_for_pool(server)
        with sandbox(server) as one:
            one.run(_NUMPY.format(mib=100))
            one.settled()
            before = _memory(server, one)
            begin = time.perf_counter()
            branches = one.branches(100)
            times.append((time.perf_counter() - begin) * 1000)
            sizes.append((_memory(server, one) - before) / 100 / _MIB)
            for branch in branches:
                branch.delete()
    yield _figure("a hundred branches, 100 MB numpy", times, bar=1500.0)
    yield Figure("memory of one branch", statistics.median(sizes), max(sizes), "MiB")


def _in_turns(
    rounds: int, first: Callable[[], float], second: Callable[[], float], pause: float
) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for times, measure in zip(found, (first, second), strict=True):
            if pause:
                time.sleep(pause)
            times.append(measure())
    return found


def _timed(one: Sandbox, code: str) -> float:
    begin = time.perf_counter()
    one.execute(code)
    return (time.perf_counter() - begin) * 1000


def _memory(server: Serving, one: Sandbox) -> int:
    request = sandbox_service_pb2.GetSandboxStateRequest(sandbox_id=one.id)
    return int(server.sandboxes.GetSandboxState(request, metadata=server.metadata).memory_bytes)


def _figure(name: str, times: list[float], *, beside: str = "", bar: float | None = None) -> Figure:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return Figure(name, statistics.median(times), p99, "ms", beside, bar)


def _ms(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ms"


def _line(figure: Figure) -> str:
    bar = "" if figure.bar is None else f"bar {figure.bar:g}{' MISSED' if figure.missed else ''}"
    values = f"p50 {figure.median:9.2f}  p99 {figure.p99:9.2f} {figure.unit:6}"
    return f"{figure.name:48} {values} {figure.beside:28} {bar}"


if __name__ == "__main__":
    sys.exit(main())
