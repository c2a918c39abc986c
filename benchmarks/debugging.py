"""What tracing costs, beside PySnooper, snoop and bdb on the same four programs in one run.

    python -m benchmarks.debugging [--json] [--check] [--rounds N]

The peers trace in this process; sandboxd's steps come out of a sandbox and are counted by a gRPC client, so
its figures hold encoding, the channel and the stream too. Rounds of all alternate; the best of each counts.
`--check` exits with 1 when a bar is missed.
"""

import argparse
import bdb
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from google.protobuf import duration_pb2
from sandboxd_api.v1 import checkpoint_pb2, debug_pb2, execution_pb2, sandbox_service_pb2, trace_pb2
from sandboxd_api.v1 import debug_session_pb2 as session_pb2
from sandboxd_api.v1 import execution_service_pb2 as pb

from tests.support.serving import Serving, serving, spec_of

LOOP = "for i in range({n}):\n    x = i * 2\n"
LOOP_IN_FUNCTION = """\
def f(n):
    t = 0
    for i in range(n):
        a = i + 1
        b = a * 2
        t = t + b
    return t
f({n})
"""
QSORT = """\
def numbers(n, s=7):
    out = []
    for _ in range(n):
        s = (s * 1103515245 + 12345) % 2147483648
        out.append(s % 10000)
    return out
def qsort(a, lo, hi):
    if lo >= hi:
        return
    p = a[(lo + hi) // 2]
    i = lo
    j = hi
    while i <= j:
        while a[i] < p:
            i += 1
        while a[j] > p:
            j -= 1
        if i <= j:
            a[i], a[j] = a[j], a[i]
            i += 1
            j -= 1
    qsort(a, lo, j)
    qsort(a, i, hi)
data = numbers(300)
qsort(data, 0, len(data) - 1)
"""
FIB = "def fib(n):\n    if n < 2:\n        return n\n    return fib(n - 1) + fib(n - 2)\nfib(15)\n"
PANDAS = """\
import numpy as np
import pandas as pd
frame = pd.DataFrame({'k': np.arange(5000) % 50, 'v': np.arange(5000) * 1.5})
total = 0.0
for turn in range(20):
    part = frame[frame['v'] > turn * 10]
    groups = part.groupby('k')['v'].mean()
    top = groups.sort_values(ascending=False).head(5)
    total += float(top.sum())
"""
PROGRAMS = {
    "loop": LOOP.format(n=100_000),
    "function": LOOP_IN_FUNCTION.format(n=25_000),
    "qsort": QSORT,
    "fib": FIB,
}
SMALLER = {
    "loop": LOOP.format(n=2000),
    "function": LOOP_IN_FUNCTION.format(n=500),
    "qsort": QSORT,
    "fib": FIB,
}
"""For the peers, which would take minutes on the others."""


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


# --- the peers -------------------------------------------------------------------------------------


class _Steps(bdb.Bdb):
    """What each debugger built on bdb pays at least: a stop a line, with a copy of the variables."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def user_line(self, frame: Any) -> None:
        self.count += 1
        dict(frame.f_locals)
        self.set_step()


def _bdb(source: str) -> tuple[int, float]:
    tracer = _Steps()
    code = compile(source, "<program>", "exec")
    start = time.perf_counter()
    tracer.run(code, {})
    return tracer.count, time.perf_counter() - start


def _in_a_function(source: str, head: str) -> Callable[[], Any]:
    """The program as a function of a file: PySnooper and snoop trace functions and read their source."""
    body = "".join(f"    {line}\n" for line in source.splitlines())
    directory = tempfile.mkdtemp()
    path = Path(directory) / "program.py"
    path.write_text(f"{head}\ndef program():\n{body}")
    namespace: dict[str, Any] = {"__name__": "program", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    program: Callable[[], Any] = namespace["program"]
    return program


def _pysnooper(source: str) -> tuple[int, float]:
    import pysnooper

    out = io.StringIO()
    traced = pysnooper.snoop(out, depth=40, color=False)(_in_a_function(source, ""))
    start = time.perf_counter()
    traced()
    elapsed = time.perf_counter() - start
    return sum(" line " in line for line in out.getvalue().splitlines()), elapsed


def _snoop(source: str) -> tuple[int, float]:
    import snoop

    out = io.StringIO()
    config = snoop.Config(out=out, color=False)
    traced = config.snoop(depth=40)(_in_a_function(source, ""))
    start = time.perf_counter()
    traced()
    elapsed = time.perf_counter() - start
    return sum(" | " in line for line in out.getvalue().splitlines()), elapsed


PEERS: dict[str, Callable[[str], tuple[int, float]]] = {"bdb": _bdb, "PySnooper": _pysnooper, "snoop": _snoop}


# --- sandboxd ----------------------------------------------------------------------------------------


def _debug(
    server: Serving, sandbox: str, code: str, detail: int, **more: Any
) -> Iterator[debug_pb2.DebugEvent]:
    options = execution_pb2.ExecutionOptions(timeout=duration_pb2.Duration(seconds=60))
    request = pb.DebugRequest(
        sandbox_id=sandbox,
        code=code,
        options=options,
        debug_options=debug_pb2.DebugOptions(detail=detail, **more),
    )
    for response in server.executions.Debug(request, metadata=server.metadata, timeout=120):
        yield response.event


def _streamed(server: Serving, sandbox: str, code: str) -> tuple[int, float, int]:
    """Steps, seconds from request to last event, and bytes of the batches."""
    steps = size = 0
    start = time.perf_counter()
    for event in _debug(server, sandbox, code, debug_pb2.DebugOptions.DETAIL_DELTA):
        if event.WhichOneof("event") == "batch":
            steps += event.batch.columns.step_count
            size += event.batch.ByteSize()
    return steps, time.perf_counter() - start, size


def _full(server: Serving, sandbox: str) -> tuple[int, float]:
    count = 0
    start = time.perf_counter()
    for event in _debug(server, sandbox, LOOP.format(n=5000), debug_pb2.DebugOptions.DETAIL_FULL):
        count += event.WhichOneof("event") == "step"
    return count, time.perf_counter() - start


def _wall(server: Serving, sandbox: str, code: str) -> float:
    request = pb.ExecuteRequest(sandbox_id=sandbox, code=code)
    result = server.executions.Execute(request, metadata=server.metadata).execution.result
    assert result.state == execution_pb2.Execution.STATE_SUCCEEDED, result.failure.message
    return float(result.usage.wall_time.ToNanoseconds() / 1e9)


def _traced_wall(server: Serving, sandbox: str, code: str) -> float:
    last = list(_debug(server, sandbox, code, debug_pb2.DebugOptions.DETAIL_SUMMARY))[-1]
    return float(last.finished.execution.result.usage.wall_time.ToNanoseconds() / 1e9)


def _first_step(server: Serving, sandbox: str) -> float:
    start = time.perf_counter()
    call = _debug(server, sandbox, "x = 1\ny = 2\n", debug_pb2.DebugOptions.DETAIL_DELTA)
    elapsed = 0.0
    for event in call:
        if event.WhichOneof("event") == "batch" and not elapsed:
            elapsed = time.perf_counter() - start
    return elapsed


class _Session:
    """An interactive session over a queue of commands."""

    def __init__(self, server: Serving, sandbox: str, code: str, **start: Any) -> None:
        import queue

        self._commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        options = execution_pb2.ExecutionOptions(timeout=duration_pb2.Duration(seconds=60))
        first = session_pb2.StartDebugging(sandbox_id=sandbox, code=code, options=options, **start)
        self._commands.put(pb.DebugSessionRequest(command_id=1, start=first))
        self.call = server.executions.DebugSession(
            iter(self._commands.get, None), metadata=server.metadata, timeout=120
        )

    def resume(self, mode: int) -> str:
        """Goes on to the next stop or the end."""
        self._commands.put(pb.DebugSessionRequest(command_id=2, resume=session_pb2.Resume(mode=mode)))
        return self.wait()

    def wait(self) -> str:
        """Waits for a stop or the end."""
        for response in self.call:
            kind = response.WhichOneof("event")
            if kind in ("stopped", "finished"):
                return str(kind)
        return "gone"


def _interactive(server: Serving, sandbox: str, count: int) -> list[float]:
    session = _Session(server, sandbox, LOOP.format(n=count), stop_at_entry=True)
    session.wait()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        session.resume(session_pb2.Resume.MODE_STEP_INTO)
        times.append(time.perf_counter() - start)
    session.resume(session_pb2.Resume.MODE_CONTINUE)
    return times


def _unhit(server: Serving, sandbox: str) -> float:
    """Wall time with a breakpoint that is never hit, beside the same run untraced."""
    code = LOOP.format(n=1_000_000) + "if x < 0:\n    never = 1\n"
    session = _Session(
        server, sandbox, code, record_trace=False, breakpoints=[session_pb2.Breakpoint(line=4)]
    )
    for response in session.call:
        if response.WhichOneof("event") == "finished":
            return float(response.finished.execution.result.usage.wall_time.ToNanoseconds() / 1e9)
    raise AssertionError("the session did not finish")


def _past(server: Serving, sandbox: str) -> list[float]:
    """Times of looking at steps all over a long trace."""
    events = list(_debug(server, sandbox, LOOP.format(n=500_000), debug_pb2.DebugOptions.DETAIL_SUMMARY))
    execution = events[-1].finished.execution.id
    times = []
    for step in range(1000, 1_000_000, 20_011):
        query = trace_pb2.TraceQuery(state_at_step=trace_pb2.TraceQuery.StateAtStep(step=step))
        request = pb.QueryTraceRequest(execution_id=execution, query=query)
        start = time.perf_counter()
        server.executions.QueryTrace(request, metadata=server.metadata)
        times.append(time.perf_counter() - start)
    return times


def _sandbox(server: Serving) -> str:
    """Without checkpoints: what they cost before an execution is measured elsewhere."""
    spec = spec_of(debugging=True, memory_bytes=1 << 30, cpu_percent=100, execution_timeout=120)
    spec.checkpoint_policy.mode = checkpoint_pb2.CheckpointPolicy.MODE_DISABLED
    request = sandbox_service_pb2.CreateSandboxRequest(spec=spec)
    return str(server.sandboxes.CreateSandbox(request, metadata=server.metadata).sandbox.id)


# --- the run -----------------------------------------------------------------------------------------


def measure(rounds: int) -> list[Row]:
    """All figures."""
    rows: list[Row] = []
    with serving() as server:
        sandbox = _sandbox(server)
        _wall(server, sandbox, PANDAS)
        rows += _measure_streams(server, sandbox, rounds)
        rows += _measure_costs(server, sandbox, rounds)
        rows += _measure_answers(server, sandbox)
    return rows


def _measure_streams(server: Serving, sandbox: str, rounds: int) -> list[Row]:
    best: dict[tuple[str, str], float] = {}
    size: dict[str, float] = {}
    for _ in range(rounds):
        for program, source in PROGRAMS.items():
            steps, seconds, taken = _streamed(server, sandbox, source)
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
    full = max(count / seconds for count, seconds in (_full(server, sandbox) for _ in range(rounds)))
    return [*rows, Row(what="FULL steps/s", program="loop", value=full, unit="1/s", bar=8000)]


def _measure_costs(server: Serving, sandbox: str, rounds: int) -> list[Row]:
    plain, traced, untouched, unhit = [], [], [], []
    for _ in range(rounds):
        plain.append(_wall(server, sandbox, PANDAS))
        traced.append(_traced_wall(server, sandbox, PANDAS))
        untouched.append(_wall(server, sandbox, LOOP.format(n=1_000_000)))
        unhit.append(_unhit(server, sandbox))
    newer = sys.version_info >= (3, 12)
    return [
        Row(
            what="slowdown, pandas job fully traced",
            program="pandas",
            value=min(traced) / min(plain),
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
    first = [_first_step(server, sandbox) for _ in range(30)]
    steps = sorted(_interactive(server, sandbox, 400))
    past = sorted(_past(server, sandbox))
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
