"""Rows F to I: callers that go away, set short deadlines, come in crowds or do not read."""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from sandboxd_api.v1 import execution_service_pb2 as execution_service

from tests.chaos.ledger import ENDLESS, Ledger
from tests.chaos.model import Bar, Case, Watch
from tests.chaos.watching import checked_server, resident_bytes, since, until_running
from tests.support.serving import Serving, options_of

_MIB = 1 << 20

# --- F: the caller goes away ---------------------------------------------------------------------


def _caller_gone(watch: Watch, kind: str) -> None:
    with tempfile.TemporaryFile() as log, checked_server(watch, log=log) as (server, _):
        sandbox = server.create(debugging=kind == "Debug")
        for _ in watch.rounds():
            call = _open(server, sandbox, kind)
            until_running(server, 1)
            with watch.timed("stopped"):
                call.cancel()
                until_running(server, 0)
            watch.expect(server.run(sandbox, "print(1)").stdout == "1", "the slot was not free")
        server.delete(sandbox)
        log.seek(0)
        loud = log.read().decode(errors="replace").splitlines()
        watch.expect(not loud, f"{len(loud)} log lines above INFO, such as: {loud[:1]}")


def _open(server: Serving, sandbox: str, kind: str) -> Any:
    if kind == "Execute":
        return server.start(sandbox, ENDLESS, seconds=30)
    options = options_of(30)
    if kind == "StreamExecute":
        request = execution_service.StreamExecuteRequest(sandbox_id=sandbox, code=ENDLESS, options=options)
        return server.executions.StreamExecute(request, metadata=server.metadata, timeout=60)
    debug = execution_service.DebugRequest(sandbox_id=sandbox, code=ENDLESS, options=options)
    return server.executions.Debug(debug, metadata=server.metadata, timeout=60)


# --- G: deadlines shorter than the run -----------------------------------------------------------


def _short_deadline(watch: Watch) -> None:
    with checked_server(watch) as (server, ledger):
        sandbox = server.create()
        for _ in watch.rounds():
            deadline = 0.001 * 2000 ** random.random()  # 1 ms to 2 s, the short ones as often as the long
            asked = time.monotonic()
            flight = ledger.begin_endless(server, sandbox, timeout=deadline)
            flight.expect(watch, "DEADLINE_EXCEEDED", when="at the deadline")
            watch.measure("told late", max(0.0, since(asked) - deadline))
            watch.measure("stopped", until_running(server, 0))
        watch.expect(ledger.execute(server, sandbox, "print(1)").state == "SUCCEEDED", "the slot is not free")
        server.delete(sandbox)


# --- H: a crowd ----------------------------------------------------------------------------------


def _crowd(watch: Watch) -> None:
    settings = {"max_parallel_executions": 8, "quotas": {"cpu_seconds_per_minute": 6000}, "pool_size": 8}
    with checked_server(watch, **settings) as (server, ledger):
        for _ in watch.rounds():
            _crowd_once(watch, server, ledger)


def _crowd_once(watch: Watch, server: Serving, ledger: Ledger) -> None:
    usual = _usual_seconds(server, ledger)
    memory = resident_bytes(server.pid)
    with _peak_memory(server) as peak:
        found = _burst(server)
    watch.measure("memory", (max(peak) - memory) / _MIB)
    watch.measure("slower after", _usual_seconds(server, ledger) / usual)
    watch.measure("best over worst user", found["best_over_worst"])
    watch.expect(found["waiting"] <= 1000, f"{found['waiting']} waited; the bound is 1000")
    watch.expect(not found["strange"], f"answers that are neither: {found['strange']}")
    answered = found["right"] + found["refused"] + found["turned_away"]
    watch.expect(answered == found["asked"], f"unanswered: {found}")
    bar = max(50.0, 2 * found["look_p99_ms"])
    watch.measure("refused, in its bar", found["refused_p99_ms"] / bar)
    watch.remark(
        f"{found['asked']} asked, {found['right']} ran, {found['refused']} refused, "
        f"{found['turned_away']} turned away by gRPC before they were calls; a caller beside them was "
        f"refused within {found['refused_p99_ms']:.0f} ms (p99), where a look at a sandbox took "
        f"{found['look_p99_ms']:.0f} ms: the bar is 50 ms, or two looks on a machine as busy as that"
    )


def _usual_seconds(server: Serving, ledger: Ledger) -> float:
    times = []
    sandbox = server.create()
    for _ in range(50):
        asked = time.monotonic()
        ledger.execute(server, sandbox, "1")
        times.append(since(asked))
    server.delete(sandbox)
    return statistics.median(times)


def _burst(server: Serving) -> dict[str, Any]:
    """The crowd is a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.crowd", server.address],
        env=os.environ | {"SANDBOXD_TOKEN": server.token},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def _peak_memory(server: Serving) -> Iterator[list[int]]:
    seen = [resident_bytes(server.pid)]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            seen.append(resident_bytes(server.pid))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield seen
    finally:
        over.set()
        looker.join()


# --- I: readers that do not read -----------------------------------------------------------------

_STREAMS = 20
_WRITE = """
import time
end = time.time() + {seconds}
while time.time() < end:
    print('x' * 30_000)
    time.sleep(0.05)
"""


def _slow_readers(watch: Watch) -> None:
    streams = min(_STREAMS, watch.round_count)
    seconds = 60 if watch.round_count >= _STREAMS else 10
    if seconds < 60:
        watch.remark(f"windows were left full for {seconds} s; with all {_STREAMS} rounds for 60 s")
    with checked_server(watch, pool_size=8) as (server, ledger):
        prompt = _with_readers(server, ledger, streams, seconds, reads=True)
        for _ in watch.rounds(streams):
            pass
        slow = _with_readers(server, ledger, streams, seconds, reads=False)
        watch.measure("kept a stream", max(0.0, slow[0] - prompt[0]) / streams / _MIB)
        watch.measure("others slower", slow[1] / prompt[1])


def _with_readers(
    server: Serving, ledger: Ledger, streams: int, seconds: float, *, reads: bool
) -> tuple[float, float]:
    """The server's memory, and how long others' executions take, while output flows to such readers."""
    sandboxes = [server.create(execution_timeout=90, cpu_percent=10) for _ in range(streams)]
    before = resident_bytes(server.pid)
    calls = [_stream(server, sandbox, seconds) for sandbox in sandboxes]
    readers = [threading.Thread(target=_read, args=(call,)) for call in calls]
    for reader in readers if reads else ():
        reader.start()
    until_running(server, streams)
    times = []
    with _peak_memory(server) as peak:
        end = time.monotonic() + seconds - 2
        while time.monotonic() < end:
            asked = time.monotonic()
            ledger.quick(server, "1")
            times.append(since(asked))
    for call, reader in zip(calls, readers, strict=True):
        if reads:
            reader.join(60)
        call.cancel()
    until_running(server, 0)
    for sandbox in sandboxes:
        server.delete(sandbox)
    return float(max(peak) - before), statistics.median(times)


def _stream(server: Serving, sandbox: str, seconds: float) -> Any:
    request = execution_service.StreamExecuteRequest(
        sandbox_id=sandbox, code=_WRITE.format(seconds=seconds), options=options_of(90)
    )
    return server.executions.StreamExecute(request, metadata=server.metadata, timeout=120)


def _read(call: Any) -> None:
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass


def _gone(kind: str) -> Case:
    return Case(
        row="F",
        what=f"the caller of {kind} goes away",
        rounds=200,
        quick_rounds=15,
        bars=(Bar(name="stopped", most=0.5),),
        run=lambda watch: _caller_gone(watch, kind),
    )


CASES = (
    _gone("Execute"),
    _gone("StreamExecute"),
    _gone("Debug"),
    Case(
        row="G", what="a deadline of 1 ms to 2 s", rounds=500, quick_rounds=30,
        bars=(Bar(name="told late", most=0.1), Bar(name="stopped", most=1.0)),
        run=_short_deadline,
    ),
    Case(
        row="H", what="10,000 requests at once, 64 connections", rounds=5, quick_rounds=1,
        bars=(
            Bar(name="refused, in its bar", most=1.0, unit=""),
            Bar(name="memory", most=200.0, unit="MiB"),
            Bar(name="slower after", most=2.0, unit="times"),
            Bar(name="best over worst user", most=3.0, unit=""),
        ),
        run=_crowd,
    ),
    Case(
        row="I", what="streams that are not read", rounds=20, quick_rounds=10,
        bars=(
            Bar(name="kept a stream", most=4.0, unit="MiB"),
            Bar(name="others slower", most=1.1, unit="times"),
        ),
        run=_slow_readers,
    ),
)  # fmt: skip
