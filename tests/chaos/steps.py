"""Rows R and S: other versions, and every set-up step of a guest that fails."""

import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from sandboxd_api.v1 import execution_service_pb2 as execution_service

from sandboxd.store.store import StoreSettings, open_store
from tests.chaos.model import Bar, Case, NotRun, Watch
from tests.chaos.watching import checked_server, since
from tests.store.examples import KEEP_ALL, an_execution
from tests.support.leftovers import assert_nothing_left, settled
from tests.support.serving import Answer, Serving, options_of, serving

# --- R: other versions ---------------------------------------------------------------------------

_UNKNOWN = b"\xfa\x7f\x06newer!"
"""Field 2047 with six bytes: what a client of a later version might send."""


def _newer_client(watch: Watch) -> None:
    with checked_server(watch) as (server, _):
        sandbox = server.create()
        execute: Any = server.channel.unary_unary(
            "/sandboxd_api.v1.ExecutionService/Execute",
            request_serializer=lambda request: request.SerializeToString() + _UNKNOWN,
            response_deserializer=execution_service.ExecuteResponse.FromString,
        )
        for _ in watch.rounds():
            request = execution_service.ExecuteRequest(
                sandbox_id=sandbox, code="print('ran')", options=options_of(10)
            )
            answer = Answer(execute(request, metadata=server.metadata, timeout=30).execution)
            watch.expect(answer.stdout == "ran", f"a request with an unknown field: {answer.describe()}")
        server.delete(sandbox)


def _killed_in_migration(watch: Watch) -> None:
    root = Path(__file__).parents[2]
    for _ in watch.rounds():
        with tempfile.TemporaryDirectory(prefix="sandboxd-chaos-") as directory:
            settings = StoreSettings(directory=Path(directory) / "store", retention=KEEP_ALL)
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.store.crash_child", str(settings.directory), "", "exe_m"],
                cwd=root,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while not settings.directory.exists() and child.poll() is None:
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.2))
            child.send_signal(signal.SIGKILL)
            child.wait()
            with watch.timed("opens"):
                aside = asyncio.run(_opened(settings))
            watch.expect(not aside, f"set aside after a kill: {aside}")


async def _opened(settings: StoreSettings) -> list[str]:
    async with open_store(settings) as store:
        await store.executions.begin(an_execution())
        await store.flush()
        return [str(item) for item in store.set_aside]


def _last_version(_: Watch) -> None:
    raise NotRun("there is only one version of the history and of the contract so far")


# --- S: set-up steps that fail -------------------------------------------------------------------


def _failing_steps(watch: Watch) -> None:
    for step in _steps():
        with serving(fault_step=step) as server:
            _refuse(watch, server, step)
            before = settled(server.pid, seconds=30)
            for _ in watch.rounds(watch.round_count):
                _refuse(watch, server, step)
            try:
                assert_nothing_left(server.pid, before, seconds=10)
            except AssertionError as error:
                watch.expect(False, f"I3: after {step} failed: {error}")
            watch.expect(server.process.poll() is None, f"the server ended when {step} failed")
            server.channel.close()


def _refuse(watch: Watch, server: Serving, step: str) -> None:
    asked = time.monotonic()
    try:
        answer = server.quick("print('ran')")
    except grpc.RpcError as error:
        watch.measure("refused", since(asked))
        named = error.code() is grpc.StatusCode.UNAVAILABLE and step in str(error.details())
        watch.expect(named, f"{step} failed and was told as {error.code().name} {error.details()}")
    else:
        watch.expect(False, f"{step} failed and user code ran: {answer.describe()}")


def _steps() -> list[str]:
    """The steps of a guest on this machine, as the zygote has them."""
    from sandboxd.supervisor.probing import probe_host
    from sandboxd.zygote.spawn import GuestSetup

    isolation = probe_host()
    if isolation.cgroups is not None:
        isolation.cgroups.remove()
    return [name for name, _ in GuestSetup(plan=isolation.plan, proc=-1).steps]


CASES = (
    Case(
        row="R", what="unknown fields of a newer client", rounds=20, quick_rounds=3, bars=(),
        run=_newer_client,
    ),
    Case(
        row="R", what="a kill while the history is made", rounds=50, quick_rounds=5,
        bars=(Bar(name="opens", most=3.0),),
        run=_killed_in_migration,
    ),
    Case(
        row="R", what="history of the last version", rounds=1, quick_rounds=1, bars=(), run=_last_version
    ),
    Case(
        row="S", what="each set-up step fails", rounds=20, quick_rounds=2,
        bars=(Bar(name="refused", most=5.0),),
        run=_failing_steps,
    ),
)  # fmt: skip
