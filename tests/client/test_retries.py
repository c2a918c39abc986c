"""Calls that met an unavailable server are repeated, and never act twice."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import grpc
import pytest
from sandboxd_api.v1 import (
    execution_event_pb2,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    sandbox_pb2,
    sandbox_service_pb2,
    sandbox_service_pb2_grpc,
)
from sandboxd_client import Client, Draining, Finished, InvalidArgument, Retry, Stdout, Unavailable, errors

from sandboxd import errors as host_errors
from sandboxd.rpc.status import code_of, trailing_metadata


class FlakyServer(
    sandbox_service_pb2_grpc.SandboxServiceServicer, execution_service_pb2_grpc.ExecutionServiceServicer
):
    """Fails as often as told, and remembers what it was asked."""

    def __init__(self, *, failures: int, retry_after: float = 0.0) -> None:
        self.failures = failures
        self.error = host_errors.ZygoteUnavailable(problem="being replaced", retry_after=retry_after)
        self.request_ids: list[str] = []
        self.watched_after: list[int] = []

    async def _answer(self, request_id: str, context: Any) -> None:
        self.request_ids.append(request_id)
        if self.failures:
            self.failures -= 1
            context.set_trailing_metadata(trailing_metadata(self.error))
            await context.abort(code_of(type(self.error)), str(self.error))

    async def CreateSandbox(self, request: Any, context: Any) -> Any:
        await self._answer(request.request_id, context)
        return sandbox_service_pb2.CreateSandboxResponse(sandbox=sandbox_pb2.Sandbox(id="sbx_1"))

    async def Execute(self, request: Any, context: Any) -> Any:
        await self._answer(request.request_id, context)
        return execution_service_pb2.ExecuteResponse(execution=_ended())

    async def StreamExecute(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.request_ids.append(request.request_id)
        yield _event(execution_service_pb2.StreamExecuteResponse, 1, started={"number": 1})
        yield _event(execution_service_pb2.StreamExecuteResponse, 2, stdout={"data": b"\xe2\x82"})
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    async def WatchExecution(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.watched_after.append(request.after_sequence)
        yield _event(execution_service_pb2.WatchExecutionResponse, 3, stdout={"data": b"\xac"})
        yield _event(execution_service_pb2.WatchExecutionResponse, 4, finished={"execution": _ended()})


def _ended() -> execution_pb2.Execution:
    state = execution_pb2.Execution.STATE_SUCCEEDED
    return execution_pb2.Execution(id="exe_1", state=state, result=execution_pb2.ExecutionResult(state=state))


def _event(response: Callable[..., Any], sequence: int, **event: Any) -> Any:
    return response(
        event=execution_event_pb2.ExecutionEvent(sequence=sequence, execution_id="exe_1", **event)
    )


@asynccontextmanager
async def _serving(servicer: FlakyServer) -> AsyncIterator[str]:
    server = grpc.aio.server()
    sandbox_service_pb2_grpc.add_SandboxServiceServicer_to_server(servicer, server)
    execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


_QUICK = Retry(first_delay=0.01)


async def test_unavailable_server_is_asked_again_with_the_same_request_id() -> None:
    servicer = FlakyServer(failures=2)
    async with _serving(servicer) as address, Client.connect(address, retry=_QUICK) as client:
        sandbox = await client.create_sandbox()
        servicer.failures = 1
        result = await sandbox.execute("1")
    assert result.status == "completed"
    creations, executions = servicer.request_ids[:3], servicer.request_ids[3:]
    assert len(set(creations)) == 1
    assert len(executions) == 2
    assert len(set(executions)) == 1
    assert creations[0] != executions[0]


async def test_delay_that_the_server_asks_for_is_kept() -> None:
    servicer = FlakyServer(failures=1, retry_after=0.3)
    async with _serving(servicer) as address, Client.connect(address, retry=_QUICK) as client:
        start = monotonic()
        await client.create_sandbox()
    assert monotonic() - start >= 0.3


async def test_attempts_are_bounded() -> None:
    servicer = FlakyServer(failures=100)
    retry = Retry(attempts=3, first_delay=0.01)
    async with _serving(servicer) as address, Client.connect(address, retry=retry) as client:
        with pytest.raises(errors.ZygoteUnavailable):
            await client.create_sandbox()
    assert len(servicer.request_ids) == 3


async def test_delay_beyond_the_deadline_is_not_waited_for() -> None:
    servicer = FlakyServer(failures=100)
    servicer.error = host_errors.Draining()  # asks for 5 s
    async with _serving(servicer) as address, Client.connect(address, deadline=1.0) as client:
        start = monotonic()
        with pytest.raises(Draining):
            await client.create_sandbox()
    assert monotonic() - start < 1.0
    assert len(servicer.request_ids) == 1


async def test_other_errors_are_not_repeated() -> None:
    servicer = FlakyServer(failures=100)
    servicer.error = host_errors.InvalidArgument(field="code", problem="missing")  # type: ignore[assignment]
    async with _serving(servicer) as address, Client.connect(address, retry=_QUICK) as client:
        with pytest.raises(InvalidArgument):
            await client.create_sandbox()
    assert len(servicer.request_ids) == 1


async def test_broken_stream_goes_on_where_it_broke() -> None:
    servicer = FlakyServer(failures=0)
    async with _serving(servicer) as address, Client.connect(address, retry=_QUICK) as client:
        sandbox = await client.create_sandbox()
        events = [event async for event in sandbox.stream("print('€')")]
    assert servicer.watched_after == [2]
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert "".join(event.text for event in events if isinstance(event, Stdout)) == "€"
    assert isinstance(events[-1], Finished)


async def test_stopped_server_that_was_known_is_waited_for() -> None:
    servicer = FlakyServer(failures=0)
    async with _serving(servicer) as address:
        client = Client.connect(address, retry=Retry(attempts=40, first_delay=0.02, max_delay=0.05))
        sandbox = await client.create_sandbox()
    with pytest.raises(Unavailable):
        await sandbox.execute("1")
    await client.close()
