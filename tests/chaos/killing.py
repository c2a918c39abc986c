"""Rows A to E: processes that are killed, stopped or asked to end."""

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from sandboxd_api.v1 import execution_service_pb2 as execution_service

from tests.chaos.ledger import Flight, Ledger
from tests.chaos.model import Bar, Case, Watch
from tests.chaos.watching import (
    ENDLESS,
    alive,
    checked_server,
    family_of,
    is_serving,
    kill,
    queued_count,
    running_count,
    since,
    until,
)
from tests.support.leftovers import cgroup_roots, settled
from tests.support.serving import Answer, Serving, children, is_zygote, options_of, serving

_IN_FLIGHT = 20
_QUERY = "while True:\n    await db_query('SELECT * FROM users LIMIT 10')"


# --- A: a guest is killed ------------------------------------------------------------------------


def _guest_killed(watch: Watch, code: str, *, debugged: bool) -> None:
    with checked_server(watch) as (server, ledger):
        sandbox = server.create(debugging=debugged)
        for _ in watch.rounds():
            guests = server.guests_of(sandbox)
            if debugged:
                ended = _debugged(server, sandbox, code)
            else:
                ended = _flown(ledger.begin(server, sandbox, code, seconds=30, endless=True))
            until(lambda: running_count(server) == 1, what="it runs")
            time.sleep(0.02)  # somewhere in the middle, not at a known place
            killed = time.monotonic()
            for pid in guests:
                kill(pid)
            state, cause = ended()
            watch.measure("told", since(killed))
            told_truly = state in ("FAILED", "ABORTED") and cause not in ("UNSPECIFIED", "EXCEPTION")
            watch.expect(told_truly, f"a killed guest was told as {state} {cause}")
        server.delete(sandbox)


def _flown(flight: Flight) -> Callable[[], tuple[str, str]]:
    def ended() -> tuple[str, str]:
        told = flight.answer()
        if isinstance(told, grpc.RpcError):
            return told.code().name, str(told.details())
        return told.state, told.failure

    return ended


def _debugged(server: Serving, sandbox: str, code: str) -> Callable[[], tuple[str, str]]:
    """A debug run whose events are read as they come."""
    request = execution_service.DebugRequest(sandbox_id=sandbox, code=code, options=options_of(30))
    stream = server.executions.Debug(request, metadata=server.metadata, timeout=120)
    found: list[Answer] = []

    def follow() -> None:
        with contextlib.suppress(grpc.RpcError):
            events = (response.event for response in stream)
            found.extend(
                Answer(event.finished.execution)
                for event in events
                if event.WhichOneof("event") == "finished"
            )

    reader = threading.Thread(target=follow)
    reader.start()

    def ended() -> tuple[str, str]:
        reader.join(60)
        return (found[0].state, found[0].failure) if found else ("nothing", "told")

    return ended


# --- B: the zygote is killed ---------------------------------------------------------------------


def _zygote_killed(watch: Watch, flights: int) -> None:
    with checked_server(watch) as (server, ledger):
        for _ in watch.rounds():
            sandboxes = [server.create() for _ in range(flights)]
            flown = [ledger.begin(server, one, ENDLESS, seconds=30, endless=True) for one in sandboxes]
            until(lambda: running_count(server) == flights, what="all run")
            old, killed = _outer_zygotes(server), time.monotonic()
            os.kill(server.zygote_pid, signal.SIGKILL)
            until(partial(_has_other_zygote, server, old), what="another zygote starts")
            for flight in flown:
                told = flight.answer()
                ended = told.state if isinstance(told, Answer) else told.code().name
                watch.expect(ended == "ABORTED", f"in flight when the zygote died: {ended}")
                watch.measure("ended", since(killed))
            next_one = ledger.quick(server, "print('next')").state
            watch.measure("next execution", since(killed))
            watch.expect(next_one == "SUCCEEDED", f"the next execution: {next_one}")
            until(lambda: is_serving(server), what="health says so")
            for sandbox in sandboxes:
                server.delete(sandbox)


def _outer_zygotes(server: Serving) -> set[int]:
    """Zygotes as the server started them; the zygote proper may be a child of one."""
    return {pid for pid in children(server.pid) if is_zygote(pid)}


def _has_other_zygote(server: Serving, old: set[int]) -> bool:
    return bool(_outer_zygotes(server) - old)


# --- C: the server is killed ---------------------------------------------------------------------


def _server_killed(watch: Watch, *, while_writing: bool) -> None:
    """One history through all rounds: what an early server acknowledged, the last one still knows."""
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="sandboxd-chaos-") as directory:
        for _ in watch.rounds():
            _one_server_killed(watch, ledger, f"{directory}/data", while_writing=while_writing)
        with serving(data_directory=f"{directory}/data") as server:
            ledger.check(watch, server, None)
            server.channel.close()


def _one_server_killed(watch: Watch, ledger: Ledger, directory: str, *, while_writing: bool) -> None:
    started = time.monotonic()
    with serving(data_directory=directory) as server:
        ledger.quick(server, "1")
        watch.measure("serves", since(started))
        flown: list[Flight] = []
        writers: list[threading.Thread] = []
        if while_writing:
            stop = threading.Event()
            writers = [threading.Thread(target=_write, args=(ledger, server, stop)) for _ in range(4)]
            for writer in writers:
                writer.start()
            time.sleep(0.5)  # the load is what is waited for; where in it the kill falls is chance
            stop.set()
        else:
            sandboxes = [server.create() for _ in range(_IN_FLIGHT)]
            flown = [ledger.begin(server, one, ENDLESS, seconds=30, endless=True) for one in sandboxes]
            until(lambda: running_count(server) == _IN_FLIGHT, what="all run")
        family, roots, killed = family_of(server), cgroup_roots(server.pid), time.monotonic()
        server.process.kill()
        server.process.wait()
        until(partial(_are_gone, family), what="every process is gone")
        watch.measure("orphans gone", since(killed))
        for flight in flown:
            told = flight.answer()
            watch.expect(isinstance(told, grpc.RpcError), "a killed server answered")
        for writer in writers:
            writer.join()
        server.channel.close()
    with serving(data_directory=directory) as successor:
        watch.expect(not any(root.exists() for root in roots), "I3: control groups of a dead server are left")
        aborted = [flight.request_id for flight in flown]
        ledger.check(watch, successor, None)
        watch.expect(_states(successor, aborted) <= {"ABORTED"}, f"in flight: {_states(successor, aborted)}")
        successor.channel.close()


def _write(ledger: Ledger, server: Serving, stop: threading.Event) -> None:
    """Executions one after another until the server is gone."""
    with contextlib.suppress(grpc.RpcError):
        while True:
            ledger.quick(server, "print(1)")
            if stop.is_set():
                ledger.quick(server, "print(2)")


def _states(server: Serving, request_ids: list[str]) -> set[str]:
    from tests.chaos.ledger import history, state_of

    return {state_of(item) for item in history(server) if item.request_id in request_ids}


# --- D: a process is stopped ---------------------------------------------------------------------


def _guest_stopped(watch: Watch) -> None:
    with checked_server(watch) as (server, ledger):
        for _ in watch.rounds():
            sandbox = server.create()
            guests = server.guests_of(sandbox)
            flight = ledger.begin(server, sandbox, ENDLESS, seconds=2, endless=True)
            until(lambda: running_count(server) == 1, what="it runs")
            for pid in guests:
                kill(pid, signal.SIGSTOP)
            told = flight.answer()
            state = told.state if isinstance(told, Answer) else told.code().name
            watch.expect(state == "TIMED_OUT", f"a stopped guest was told as {state}")
            if isinstance(told, Answer):
                watch.measure("over its limit", told.wall_seconds - 2)
            server.delete(sandbox)


def _zygote_stopped(watch: Watch) -> None:
    with checked_server(watch) as (server, ledger):
        for _ in watch.rounds():
            sandbox = server.create()
            flight = ledger.begin(server, sandbox, "import time; time.sleep(4)", seconds=30)
            until(lambda: running_count(server) == 1, what="it runs")
            old, stopped = server.zygote_pid, time.monotonic()
            os.kill(old, signal.SIGSTOP)
            until(lambda: not is_serving(server), what="health says so")
            watch.measure("noticed", since(stopped))
            until(lambda: is_serving(server), what="health recovers")
            watch.measure("recovered", since(stopped))
            fresh = ledger.quick(server, "print('next')").state
            watch.expect(fresh == "SUCCEEDED", f"the next execution: {fresh}")
            told = flight.answer()
            state = told.state if isinstance(told, Answer) else told.code().name
            watch.expect(state == "SUCCEEDED", f"in flight when the zygote was stopped: {state}")
            server.delete(sandbox)
            until(partial(_are_gone, [old]), what="the old zygote ends")


def _are_gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


# --- E: the server is asked to end ---------------------------------------------------------------


def _drained(watch: Watch) -> None:
    for _ in watch.rounds():
        settings = {"max_parallel_executions": 50, "quotas": {"parallel_executions": 50}, "pool_size": 8}
        with serving(**settings) as server:  # type: ignore[arg-type]
            _drain_once(watch, server)
            server.channel.close()


def _drain_once(watch: Watch, server: Serving) -> None:
    ledger = Ledger()
    sandboxes = [server.create(cpu_percent=20) for _ in range(50)]
    flown = [ledger.begin(server, one, "import time; time.sleep(6)", seconds=30) for one in sandboxes]
    until(lambda: running_count(server) == 50, what="fifty run")
    queued = [ledger.begin(server, sandboxes[n % 50], "1", seconds=30) for n in range(200)]
    until(lambda: queued_count(server) == 200, what="two hundred wait")
    asked = time.monotonic()
    server.process.terminate()
    refused = [flight.answer(timeout=60) for flight in queued]
    codes = {told.code() if isinstance(told, grpc.RpcError) else told.state for told in refused}
    watch.expect(codes == {grpc.StatusCode.UNAVAILABLE}, f"the queued were told {codes}")
    watch.expect(all(_says_when(told) for told in refused), "a queued one was not told when to come back")
    watch.measure("queued refused", since(asked))
    with contextlib.suppress(grpc.RpcError):
        server.quick("1")
        watch.expect(False, "a new call was let in")
    for flight in flown:
        told = flight.answer()
        state = told.state if isinstance(told, Answer) else told.code().name
        watch.expect(state == "SUCCEEDED", f"in flight at the drain: {state}")
    code = server.process.wait(timeout=60)
    watch.expect(code == 0, f"the server's exit code is {code}")


def _says_when(told: Answer | grpc.RpcError) -> bool:
    if isinstance(told, Answer):
        return False
    metadata: Any = told.trailing_metadata()  # the stubs know no tuples, which these are
    return any(b"RetryInfo" in value for key, value in metadata or () if key == "grpc-status-details-bin")


def _drain_cut_short(watch: Watch) -> None:
    for _ in watch.rounds():
        with serving() as server:
            settled(server.pid)
            flight = Ledger().begin(server, server.create(), ENDLESS, seconds=30, endless=True)
            until(lambda: running_count(server) == 1, what="it runs")
            family = family_of(server)
            server.process.terminate()
            until(lambda: not is_serving(server), what="it drains")
            asked = time.monotonic()
            server.process.terminate()
            server.process.wait(60)
            watch.measure("ended", since(asked))
            until(partial(_are_gone, family), what="every process is gone")
            watch.measure("all gone", since(asked))
            watch.expect(isinstance(flight.answer(), grpc.RpcError), "a run that was cut short was answered")
            server.channel.close()


CASES = (
    Case(
        row="A", what="a guest is killed in Execute", rounds=100, quick_rounds=10,
        bars=(Bar(name="told", most=1.0),),
        run=lambda watch: _guest_killed(watch, ENDLESS, debugged=False),
    ),
    Case(
        row="A", what="a guest is killed in Debug", rounds=100, quick_rounds=10,
        bars=(Bar(name="told", most=1.0),),
        run=lambda watch: _guest_killed(watch, ENDLESS, debugged=True),
    ),
    Case(
        row="A", what="a guest is killed in db_query", rounds=100, quick_rounds=10,
        bars=(Bar(name="told", most=1.0),),
        run=lambda watch: _guest_killed(watch, _QUERY, debugged=False),
    ),
    Case(
        row="B", what="the zygote is killed, idle", rounds=50, quick_rounds=5,
        bars=(Bar(name="next execution", most=2.0),),
        run=lambda watch: _zygote_killed(watch, 0),
    ),
    Case(
        row="B", what="the zygote is killed, 20 in flight", rounds=50, quick_rounds=5,
        bars=(Bar(name="ended", most=2.0), Bar(name="next execution", most=2.0)),
        run=lambda watch: _zygote_killed(watch, _IN_FLIGHT),
    ),
    Case(
        row="C", what="the server is killed, 20 in flight", rounds=100, quick_rounds=5,
        bars=(Bar(name="serves", most=3.0), Bar(name="orphans gone", most=2.0)),
        run=lambda watch: _server_killed(watch, while_writing=False),
    ),
    Case(
        row="C", what="the server is killed, writing history", rounds=100, quick_rounds=5,
        bars=(Bar(name="serves", most=3.0), Bar(name="orphans gone", most=2.0)),
        run=lambda watch: _server_killed(watch, while_writing=True),
    ),
    Case(
        row="D", what="a guest is stopped in flight", rounds=20, quick_rounds=3,
        bars=(Bar(name="over its limit", most=1.0),),
        run=_guest_stopped,
    ),
    Case(
        row="D", what="the zygote is stopped in flight", rounds=20, quick_rounds=3,
        bars=(Bar(name="noticed", most=3.0), Bar(name="recovered", most=10.0)),
        run=_zygote_stopped,
    ),
    Case(
        row="E", what="SIGTERM with 50 in flight, 200 queued", rounds=20, quick_rounds=2,
        bars=(Bar(name="queued refused", most=2.0),),
        run=_drained,
    ),
    Case(
        row="E", what="a second SIGTERM", rounds=20, quick_rounds=3,
        bars=(Bar(name="ended", most=2.0), Bar(name="all gone", most=2.0)),
        run=_drain_cut_short,
    ),
)  # fmt: skip
