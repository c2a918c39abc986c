"""Clients that have no token, say nothing or do not read disturb nobody."""

import socket
from collections.abc import Iterator

import grpc
import pytest
from sandboxd_api.v1 import (
    execution_service_pb2,
    execution_service_pb2_grpc,
    sandbox_service_pb2,
    sandbox_service_pb2_grpc,
)

from tests.rpc.calls import NOT_LET_IN
from tests.support.serving import Serving

_BAD_TOKEN = (("authorization", "Bearer sbt_wrong"),)


@pytest.fixture
def many_channels(server: Serving) -> Iterator[list[grpc.Channel]]:
    channels = [
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(50)
    ]
    yield channels
    for channel in channels:
        channel.close()


def test_fifty_connections_with_bad_tokens_disturb_nobody(
    server: Serving, many_channels: list[grpc.Channel]
) -> None:
    calls = []
    for channel in many_channels:
        stub = sandbox_service_pb2_grpc.SandboxServiceStub(channel)
        for _ in range(10):
            request = sandbox_service_pb2.ListSandboxesRequest()
            calls.append(stub.ListSandboxes.future(request, metadata=_BAD_TOKEN, timeout=30))
    assert server.output("print(1)") == "1"
    assert {call.exception(timeout=30).code() for call in calls} <= set(NOT_LET_IN)


def test_connections_that_say_nothing_disturb_nobody(server: Serving) -> None:
    host, port = server.address.rsplit(":", 1)
    silent = [socket.create_connection((host, int(port))) for _ in range(100)]
    try:
        for connection in silent[:50]:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM")
        assert server.output("print(1)") == "1"
    finally:
        for connection in silent:
            connection.close()


def test_a_stream_nobody_reads_does_not_hold_the_run_or_others(server: Serving) -> None:
    sandbox = server.create()
    stub = execution_service_pb2_grpc.ExecutionServiceStub(server.channel)
    stream = stub.StreamExecute(
        execution_service_pb2.StreamExecuteRequest(
            sandbox_id=sandbox, code="for n in range(200): print('x' * 5000)\n__result__ = 'done'"
        ),
        metadata=server.metadata,
        timeout=60,
    )
    assert server.output("print(1)") == "1"
    assert server.run(sandbox, "print(2)").stdout == "2"  # the first run ended although nobody read it
    events = list(stream)
    assert [event.event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].event.finished.execution.result.value.text == "done"
    server.delete(sandbox)
