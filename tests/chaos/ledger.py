"""What callers were told, held against what the server says afterwards: the invariants I1 to I6."""

import contextlib
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
from sandboxd_api.v1 import execution_pb2
from sandboxd_api.v1 import execution_service_pb2 as execution_service

from tests.chaos.model import Watch
from tests.support.leftovers import Leftovers, assert_nothing_left, wait_until
from tests.support.serving import UNRESTRICTED, Answer, Serving, options_of, spec_of

ENDLESS = "import time\nwhile True: time.sleep(0.05)"
_LIVE = ("QUEUED", "RUNNING", "PAUSED")
_SETTLE_SECONDS = 10
_CALL_SECONDS = 120


@dataclass(slots=True, kw_only=True)
class Flight:
    """A call under way."""

    ledger: "Ledger"
    call: Any
    token: str
    request_id: str
    endless: bool
    """Its program can't have come to its end."""

    def answer(self, *, timeout: float = _CALL_SECONDS) -> Answer | grpc.RpcError:
        """What the caller was told; notes it."""
        try:
            told = Answer(self.call.result(timeout=timeout).execution)
        except grpc.RpcError as error:
            self.ledger.unanswered(self)
            return error
        except (grpc.FutureCancelledError, grpc.FutureTimeoutError):
            self.ledger.unanswered(self)
            raise
        self.ledger.answered(self, told)
        return told

    def expect(self, watch: Watch, wanted: str, *, when: str) -> Answer | grpc.RpcError:
        """What the caller was told; notes it when that is not the `wanted` ending."""
        told = self.answer()
        watch.expect(ending(told) == wanted, f"{when}: {ending(told)}")
        return told

    def expect_timeout(self, watch: Watch, seconds: float, *, when: str) -> None:
        """As `expect`; measures how far over its limit it ran."""
        told = self.expect(watch, "TIMED_OUT", when=when)
        if isinstance(told, Answer):
            watch.measure("over its limit", told.wall_seconds - seconds)


@dataclass(slots=True)
class Ledger:
    """The history as callers saw it. One a server and its successors on the same data."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """State by execution id, as an answer told it."""
    open_requests: dict[str, bool] = field(default_factory=dict)
    """Request ids whose callers have no answer; whether their programs were endless."""
    strangers: list[str] = field(default_factory=list)
    """Answers that belong to somebody else."""

    def execute(self, server: Serving, sandbox: str, code: str, *, seconds: float | None = None) -> Answer:
        """Runs code in a sandbox and notes the answer."""
        told = self.begin(server, sandbox, code, seconds=seconds).answer()
        if isinstance(told, grpc.RpcError):
            raise told
        return told

    def quick(self, server: Serving, code: str, *, seconds: float | None = None, **spec: Any) -> Answer:
        """Runs code in a sandbox of its own and notes the answer."""
        token, request_id = uuid.uuid4().hex, str(uuid.uuid4())
        request = execution_service.QuickExecuteRequest(
            code=_marked(code, token),
            request_id=request_id,
            spec=spec_of(policy=UNRESTRICTED, **spec),
            options=options_of(seconds),
        )
        call = server.executions.QuickExecute.future(request, metadata=server.metadata, timeout=_CALL_SECONDS)
        flight = Flight(ledger=self, call=call, token=token, request_id=request_id, endless=False)
        told = flight.answer()
        if isinstance(told, grpc.RpcError):
            raise told
        return told

    def begin(
        self,
        server: Serving,
        sandbox: str,
        code: str,
        *,
        seconds: float | None = None,
        endless: bool = False,
        timeout: float = _CALL_SECONDS,
    ) -> Flight:
        """Starts code in a sandbox; its output begins with a word that no other execution has."""
        token, request_id = uuid.uuid4().hex, str(uuid.uuid4())
        request = execution_service.ExecuteRequest(
            sandbox_id=sandbox,
            code=_marked(code, token),
            request_id=request_id,
            options=options_of(seconds),
        )
        call = server.executions.Execute.future(request, metadata=server.metadata, timeout=timeout)
        return Flight(ledger=self, call=call, token=token, request_id=request_id, endless=endless)

    def begin_endless(
        self, server: Serving, sandbox: str, *, seconds: float = 30, timeout: float = _CALL_SECONDS
    ) -> Flight:
        """Starts a program that runs until something ends it."""
        return self.begin(server, sandbox, ENDLESS, seconds=seconds, endless=True, timeout=timeout)

    def answered(self, flight: Flight, told: Answer) -> None:
        """I1's ground, and I5: the answer is of this caller's program."""
        self.acknowledged[told.execution.id] = told.state
        if told.state == "SUCCEEDED" and not told.stdout.startswith(flight.token):
            self.strangers.append(f"{told.execution.id} came back with another's output")

    def unanswered(self, flight: Flight) -> None:
        """I6's ground."""
        self.open_requests[flight.request_id] = flight.endless

    # --- the check -------------------------------------------------------------------------------

    def check(self, watch: Watch, server: Serving, before: Leftovers | None) -> None:
        """Notes in `watch` each invariant that does not hold; `before` is what the server held at rest."""
        self._probe(watch, server)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._live(server), seconds=_SETTLE_SECONDS, what="nothing runs")
        told = history(server)
        times = Counter(item.id for item in told)
        states = {item.id: state_of(item) for item in told}
        for name, state in self.acknowledged.items():
            watch.expect(times[name] == 1, f"I1: {name} is {times[name]} times in the history")
            if times[name]:
                watch.expect(states[name] == state, f"I1: {name} is {states[name]}, told was {state}")
        for name, state in states.items():
            watch.expect(state not in _LIVE, f"I2: {name} is {state} with nothing running")
        for item in told:
            if self.open_requests.get(item.request_id):
                watch.expect(state_of(item) != "SUCCEEDED", f"I6: {item.id} completed, and can't have")
        for stranger in self.strangers:
            watch.expect(False, f"I5: {stranger}")
        if before is not None:
            try:
                assert_nothing_left(server.pid, before, seconds=_SETTLE_SECONDS)
            except AssertionError as error:
                watch.expect(False, f"I3: left over: {error}")

    def _probe(self, watch: Watch, server: Serving) -> None:
        try:
            watch.expect(self.quick(server, "print(6 * 7)").stdout.endswith("42"), "I4: the probe failed")
        except grpc.RpcError as error:
            watch.expect(False, f"I4: the probe was refused: {error.code().name} {error.details()}")

    @staticmethod
    def _live(server: Serving) -> bool:
        try:
            return bool(history(server, states=_LIVE))
        except grpc.RpcError:  # a store that has just been healed takes a moment
            return True


def ending(told: Answer | grpc.RpcError) -> str:
    """How it ended for its caller: SUCCEEDED, ABORTED ..., or the code of the call."""
    return told.state if isinstance(told, Answer) else told.code().name


def history(server: Serving, *, states: tuple[str, ...] = ()) -> list[execution_pb2.Execution]:
    """Every execution the server knows of."""
    found: list[execution_pb2.Execution] = []
    token = ""
    while True:
        request = execution_service.ListExecutionsRequest(
            page_size=500,
            page_token=token,
            states=[execution_pb2.Execution.State.Value(f"STATE_{name}") for name in states],
        )
        page = server.executions.ListExecutions(request, metadata=server.metadata, timeout=60)
        found += page.executions
        token = page.next_page_token
        if not token:
            return found


def state_of(execution: execution_pb2.Execution) -> str:
    """SUCCEEDED, ABORTED ..."""
    return str(execution_pb2.Execution.State.Name(execution.state)).removeprefix("STATE_")


def _marked(code: str, token: str) -> str:
    return f"print('{token}', flush=True)\n{code}"
