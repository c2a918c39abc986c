"""Rows D and E: processes that are stopped, and a server that is asked to end."""

import contextlib
import os
import signal
import time
from typing import Any

import grpc

from tests.chaos.ledger import Ledger, ending
from tests.chaos.model import Bar, Case, Watch
from tests.chaos.watching import (
    checked_server,
    family_of,
    is_serving,
    kill,
    queued_count,
    since,
    until,
    until_gone,
    until_running,
)
from tests.support.leftovers import settled
from tests.support.serving import Answer, Serving, serving

# --- D: a process is stopped ---------------------------------------------------------------------


def _guest_stopped(watch: Watch) -> None:
    with checked_server(watch) as (server, ledger):
        for _ in watch.rounds():
            sandbox = server.create()
            guests = server.guests_of(sandbox)
            flight = ledger.begin_endless(server, sandbox, seconds=2)
            until_running(server, 1)
            for pid in guests:
                kill(pid, signal.SIGSTOP)
            flight.expect_timeout(watch, 2, when="a stopped guest")
            server.delete(sandbox)


def _zygote_stopped(watch: Watch) -> None:
    with checked_server(watch) as (server, ledger):
        for _ in watch.rounds():
            sandbox = server.create()
            flight = ledger.begin(server, sandbox, "import time; time.sleep(4)", seconds=30)
            until_running(server, 1)
            old, stopped = server.zygote_pid, time.monotonic()
            os.kill(old, signal.SIGSTOP)
            until(lambda: not is_serving(server), what="health says so")
            watch.measure("noticed", since(stopped))
            until(lambda: is_serving(server), what="health recovers")
            watch.measure("recovered", since(stopped))
            fresh = ledger.quick(server, "print('next')").state
            watch.expect(fresh == "SUCCEEDED", f"the next execution: {fresh}")
            flight.expect(watch, "SUCCEEDED", when="in flight when the zygote was stopped")
            server.delete(sandbox)
            until_gone([old])


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
    until_running(server, 50)
    queued = [ledger.begin(server, sandboxes[n % 50], "1", seconds=30) for n in range(200)]
    until(lambda: queued_count(server) == 200, what="two hundred wait")
    asked = time.monotonic()
    server.process.terminate()
    refused = [flight.answer(timeout=60) for flight in queued]
    codes = {ending(told) for told in refused}
    watch.expect(codes == {"UNAVAILABLE"}, f"the queued were told {codes}")
    watch.expect(all(_says_when(told) for told in refused), "a queued one was not told when to come back")
    watch.measure("queued refused", since(asked))
    with contextlib.suppress(grpc.RpcError):
        server.quick("1")
        watch.expect(False, "a new call was let in")
    for flight in flown:
        flight.expect(watch, "SUCCEEDED", when="in flight at the drain")
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
            flight = Ledger().begin_endless(server, server.create())
            until_running(server, 1)
            family = family_of(server)
            server.process.terminate()
            until(lambda: not is_serving(server), what="it drains")
            asked = time.monotonic()
            server.process.terminate()
            server.process.wait(60)
            watch.measure("ended", since(asked))
            until_gone(family)
            watch.measure("all gone", since(asked))
            watch.expect(isinstance(flight.answer(), grpc.RpcError), "a run that was cut short was answered")
            server.channel.close()


CASES = (
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
