"""Large results are the trouble of who asked for them: everybody else goes on being served."""

import time
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sandboxd_api.v1 import sandbox_service_pb2 as sandbox_service

from tests.support.serving import Serving

_MIB = 1024 * 1024


_FORGED = """
from sandboxd.channel.messages import StateReport, VariableReport
from sandboxd.channel.values import ListValue, NullValue
from sandboxd.guest import state
big = ListValue([NullValue()] * 1_000_000, 1_000_000)
variable = VariableReport(name="x", type_name="", summary="", truncated=False, value=big)
state.report = lambda session, asked: StateReport(
    request_id=asked.request_id, variables=[variable], total_count=1, live_threads=0
)
"""


@pytest.fixture
def sandbox(server: Serving) -> Any:
    one = server.create(result_bytes=16 * _MIB, memory_bytes=1024 * _MIB, cpu_percent=100)
    yield one
    server.delete(one)


def test_large_result_does_not_stop_the_server(server: Serving, sandbox: str) -> None:
    # Two million values used to hold everybody up for six seconds.
    call = server.start(sandbox, "__result__ = [None] * 1_000_000")
    assert _longest_wait(server, call) < 2.5
    assert len(call.result().execution.result.value.list.items) == 1_000_000


def test_large_variable_of_a_forged_state_does_not_stop_the_server(server: Serving, sandbox: str) -> None:
    assert server.run(sandbox, _FORGED).state == "SUCCEEDED"
    request = sandbox_service.GetSandboxStateRequest(sandbox_id=sandbox)
    call = server.sandboxes.GetSandboxState.future(request, metadata=server.metadata, timeout=60)
    assert _longest_wait(server, call) < 2.5
    assert len(call.result().variables[0].value.list.items) == 1_000_000


def _longest_wait(server: Serving, call: Any) -> float:
    """Seconds that anybody else waited for an answer while `call` was under way."""
    longest = 0.0
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while not call.done():
            asked = time.monotonic()
            health.Check(health_pb2.HealthCheckRequest(), timeout=30)
            longest = max(longest, time.monotonic() - asked)
    return longest
