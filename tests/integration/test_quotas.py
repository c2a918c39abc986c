"""A user's share is held at the wire."""

import grpc
import pytest
from google.rpc import status_pb2
from sandboxd_api.v1 import execution_service_pb2 as execution_service

from tests.support.leftovers import settled
from tests.support.serving import serving


def test_debug_run_beyond_the_share_is_refused_before_it_runs_and_a_plain_one_is_not() -> None:
    with serving(quotas={"debug_streams": 0}) as server:
        sandbox_id = server.create()
        request = execution_service.DebugRequest(sandbox_id=sandbox_id, code="ran = True")
        with pytest.raises(grpc.RpcError) as caught:
            list(server.executions.Debug(request, metadata=server.metadata, timeout=30))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.run(sandbox_id, "print('ran' in dir())").stdout == "False"


def test_debug_runs_one_after_another_give_their_place_back() -> None:
    with serving(quotas={"debug_streams": 1}) as server:
        sandbox_id = server.create()
        request = execution_service.DebugRequest(sandbox_id=sandbox_id, code="1")
        for _ in range(3):
            assert list(server.executions.Debug(request, metadata=server.metadata, timeout=30))


def test_sandbox_beyond_the_share_is_refused_with_details_before_anything_is_made() -> None:
    with serving(quotas={"sandboxes": 1}, pool_size=0) as server:
        kept = server.create()
        held = settled(server.pid)
        with pytest.raises(grpc.RpcError) as caught:
            server.create()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        kinds = {
            detail.type_url.rpartition(".")[2] for detail in status_pb2.Status.FromString(details).details
        }
        assert {"ErrorInfo", "RetryInfo", "QuotaFailure"} <= kinds
        assert settled(server.pid) == held
        server.delete(kept)
        server.delete(server.create())  # the control: with room in the share it is made
