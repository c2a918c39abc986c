"""Rows A to C: processes that are killed."""

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial

import grpc
from sandboxd_api.v1 import execution_service_pb2 as execution_service

from tests.chaos.ledger import ENDLESS, Flight, Ledger, history, state_of
from tests.chaos.model import Bar, Case, Watch
from tests.chaos.watching import (
    checked_server,
    family_of,
    is_serving,
    kill,
    since,
    until,
    until_gone,
    until_running,
)
from tests.support.leftovers import cgroup_roots
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
            until_running(server, 1)
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
            flown = [ledger.begin_endless(server, one) for one in sandboxes]
            until_running(server, flights)
            old, killed = _outer_zygotes(server), time.monotonic()
            os.kill(server.zygote_pid, signal.SIGKILL)
            until(partial(_has_other_zygote, server, old), what="another zygote starts")
            for flight in flown:
                flight.expect(watch, "ABORTED", when="in flight when the zygote died")
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
            flown = [ledger.begin_endless(server, one) for one in sandboxes]
            until_running(server, _IN_FLIGHT)
        family, roots, killed = family_of(server), cgroup_roots(server.pid), time.monotonic()
        server.process.kill()
        server.process.wait()
        until_gone(family)
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
    return {state_of(item) for item in history(server) if item.request_id in request_ids}


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
)  # fmt: skip
