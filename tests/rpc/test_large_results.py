"""Large results are the trouble of who asked for them: everybody else goes on being served."""

import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.serving import Serving

_MIB = 1024 * 1024


def test_large_result_does_not_stop_the_server(server: Serving) -> None:
    # Two million values used to hold everybody up for six seconds.
    sandbox = server.create(result_bytes=16 * _MIB, memory_bytes=1024 * _MIB, cpu_percent=100)
    call = server.start(sandbox, "__result__ = [None] * 1_000_000")
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        longest = 0.0
        while not call.done():
            asked = time.monotonic()
            health.Check(health_pb2.HealthCheckRequest(), timeout=30)
            longest = max(longest, time.monotonic() - asked)
    assert len(call.result().execution.result.value.list.items) == 1_000_000
    assert longest < 2.0
    server.delete(sandbox)
