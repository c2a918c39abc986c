"""What tracing costs, beside PySnooper, snoop and bdb on the same four programs in one run.

    python -m benchmarks.debugging [--json] [--check] [--rounds N]

The peers trace in this process; sandboxd's steps come out of a sandbox and are counted by a gRPC client, so
its figures hold encoding, the channel and the stream too. Rounds of all alternate; the best of each counts,
and for the traced pandas job the medians of many turns.
`--check` exits with 1 when a bar is missed.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
from dataclasses import asdict, dataclass

from benchmarks.tracing import runs
from benchmarks.tracing.peers import PEERS
from benchmarks.tracing.programs import LOOP, PANDAS, PROGRAMS, SMALLER
from tests.support.serving import Serving, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure."""

    what: str
    program: str
    value: float
    unit: str
    bar: float | None = None
    lower_is_better: bool = False

    @property
    def met(self) -> bool:
        """Whether the bar, where there is one, is reached."""
        if self.bar is None:
            return True
        return self.value <= self.bar if self.lower_is_better else self.value >= self.bar


def measure(rounds: int) -> list[Row]:
    """All figures."""
    rows: list[Row] = []
    with serving() as server:
        sandbox = runs.sandbox_for_debugging(server)
        runs.wall(server, sandbox, PANDAS)
        rows += _measure_streams(server, sandbox, rounds)
        rows += _measure_costs(server, sandbox, rounds)
        rows += _measure_answers(server, sandbox)
    return rows


def _measure_streams(server: Serving, sandbox: str, rounds: int) -> list[Row]:
    best: dict[tuple[str, str], float] = {}
    size: dict[str, float] = {}
    for _ in range(rounds):
        for program, source in PROGRAMS.items():
            steps, seconds, taken = runs.streamed(server, sandbox, source)
            best["sandboxd", program] = max(best.get(("sandboxd", program), 0), steps / seconds)
            size[program] = taken / steps
            for peer, run in PEERS.items():
                with contextlib.suppress(ImportError):
                    count, elapsed = run(SMALLER[program])
                    best[peer, program] = max(best.get((peer, program), 0), count / elapsed)
    rows = [
        Row(
            what=f"steps/s, {who}",
            program=program,
            value=value,
            unit="1/s",
            bar=250_000 if who == "sandboxd" and program in ("loop", "function") else None,
        )
        for (who, program), value in sorted(best.items())
    ]
    rows += [
        Row(
            what="bytes a step",
            program=program,
            value=value,
            unit="B",
            bar=12 if program == "loop" else None,
            lower_is_better=True,
        )
        for program, value in size.items()
    ]
    full = max(count / seconds for count, seconds in (runs.full(server, sandbox) for _ in range(rounds)))
    return [*rows, Row(what="FULL steps/s", program="loop", value=full, unit="1/s", bar=8000)]


def _measure_costs(server: Serving, sandbox: str, rounds: int) -> list[Row]:
    traced, plain = runs.traced_and_not(server, sandbox, PANDAS, pairs=7 * rounds)
    untouched, unhit = [], []
    for _ in range(rounds):
        untouched.append(runs.wall(server, sandbox, LOOP.format(n=1_000_000)))
        unhit.append(runs.unhit(server, sandbox))
    newer = sys.version_info >= (3, 12)
    return [
        Row(
            what="slowdown, pandas job fully traced",
            program="pandas",
            value=statistics.median(traced) / statistics.median(plain),
            unit="x",
            bar=1.2 if newer else None,
            lower_is_better=True,
        ),
        Row(
            what="cost of an unhit breakpoint",
            program="loop",
            value=min(unhit) / min(untouched),
            unit="x",
            bar=1.1 if newer else None,
            lower_is_better=True,
        ),
    ]


def _measure_answers(server: Serving, sandbox: str) -> list[Row]:
    first = [runs.first_step(server, sandbox) for _ in range(30)]
    steps = sorted(runs.interactive(server, sandbox, 400))
    past = sorted(runs.past(server, sandbox))
    milliseconds = 1000.0
    return [
        Row(
            what="first step on a warm sandbox, p50",
            program="two lines",
            value=statistics.median(first) * milliseconds,
            unit="ms",
            bar=5,
            lower_is_better=True,
        ),
        Row(
            what="interactive step, p50",
            program="loop",
            value=statistics.median(steps) * milliseconds,
            unit="ms",
            bar=0.6,
            lower_is_better=True,
        ),
        Row(
            what="interactive step, p99",
            program="loop",
            value=steps[int(len(steps) * 0.99)] * milliseconds,
            unit="ms",
            bar=2,
            lower_is_better=True,
        ),
        Row(
            what="past step of a million, p50",
            program="loop",
            value=statistics.median(past) * milliseconds,
            unit="ms",
            bar=2,
            lower_is_better=True,
        ),
    ]


def main() -> int:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps({"cpus": os.cpu_count(), "rows": [{**asdict(row), "met": row.met} for row in rows]}))
    else:
        for row in rows:
            bar = "" if row.bar is None else f"  bar {row.bar:g}: {'met' if row.met else 'MISSED'}"
            print(f"{row.what:<36} {row.program:<10} {row.value:>12,.2f} {row.unit:<4}{bar}")
    return int(arguments.check and not all(row.met for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
