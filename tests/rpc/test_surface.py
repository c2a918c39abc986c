"""The gRPC surface as a client without credentials and a careless client meet it."""

import itertools
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sandboxd_api.v1 import (
    execution_service_pb2,
    sandbox_service_pb2,
)

from tests.rpc.calls import METHODS, NOT_LET_IN, bad_fields, first_answer, info_of
from tests.support.serving import Serving

_BAD_CREDENTIALS = {
    "none": (),
    "empty": (("authorization", ""),),
    "wrong": (("authorization", "Bearer sbt_wrong"),),
    "scheme": (("authorization", "Basic dXNlcjpwYXNz"),),
    "bare": (("authorization", "Bearer"),),
    "long": (("authorization", "Bearer " + "x" * 4000),),
    "odd": (("authorization", "Bearer \t\x7f~"),),
    "user_header": (("x-user-id", "local"), ("user_id", "local")),
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("credentials", ["none", "wrong"])
def test_every_method_needs_a_token(server: Serving, method: Any, credentials: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        first_answer(server, method, _BAD_CREDENTIALS[credentials])
    assert refused.value.code() in NOT_LET_IN


@pytest.mark.parametrize("credentials", list(_BAD_CREDENTIALS))
def test_no_other_credential_passes(server: Serving, credentials: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        server.sandboxes.ListSandboxes(
            sandbox_service_pb2.ListSandboxesRequest(), metadata=_BAD_CREDENTIALS[credentials], timeout=20
        )
    assert refused.value.code() in (
        *NOT_LET_IN,
        grpc.StatusCode.INTERNAL,
    )  # grpc refuses odd metadata itself
    assert server.token not in refused.value.details()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_an_empty_request_is_answered_or_refused_by_field(server: Serving, method: Any) -> None:
    try:
        first_answer(server, method, server.metadata)
    except grpc.RpcError as error:
        assert error.code() in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.PERMISSION_DENIED,
        ), error.details()
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            assert info_of(error).domain == "sandboxd"


def test_health_is_open_and_says_nothing_else(server: Serving) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    assert (
        stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status
        == health_pb2.HealthCheckResponse.SERVING
    )


def test_reflection_lists_every_service_to_those_who_may_call(server: Serving) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(stub.ServerReflectionInfo(iter([request]), metadata=server.metadata, timeout=20))
    listed = {service.name for service in answer.list_services_response.service}
    assert {method.containing_service.full_name for method in METHODS} <= listed
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.ServerReflectionInfo(iter([request]), timeout=20))
    assert refused.value.code() in NOT_LET_IN


def test_an_unknown_method_is_unimplemented(server: Serving) -> None:
    call = server.channel.unary_unary("/sandboxd_api.v1.SandboxService/Nothing")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", metadata=server.metadata, timeout=20)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("data", [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 5000])
def test_bytes_that_are_no_message_do_not_harm(server: Serving, data: bytes) -> None:
    call = server.channel.unary_unary("/sandboxd_api.v1.ExecutionService/QuickExecute")
    with pytest.raises(grpc.RpcError):
        call(data, metadata=server.metadata, timeout=20)
    assert server.output("print(1)") == "1"


def test_a_request_beyond_the_size_limit_is_refused(server: Serving) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        server.quick("x" * (5 << 20))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    request = execution_service_pb2.QuickExecuteRequest(code="x" * (64 << 20))
    with pytest.raises(grpc.RpcError) as compressed:
        server.executions.QuickExecute(
            request, metadata=server.metadata, timeout=30, compression=grpc.Compression.Gzip
        )
    assert compressed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.output("print(1)") == "1"


def test_source_beyond_the_limit_names_the_field(server: Serving) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        server.quick("#" * ((1 << 20) + 1))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bad_fields(refused.value) == ["code"]


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"memory_bytes": 1 << 40}, "spec.limits.memory_bytes"),
        ({"memory_bytes": -1}, "spec.limits.memory_bytes"),
        ({"threads": 65}, "spec.limits.threads"),
        ({"cpu_percent": 2**31 - 1}, "spec.limits.cpu_percent"),
        ({"execution_timeout": 3600}, "spec.limits.execution_timeout"),
        ({"execution_timeout": -1}, "spec.limits.execution_timeout"),
        ({"workspace_bytes": 2**63 - 1}, "spec.limits.workspace_bytes"),
    ],
)
def test_more_than_the_ceiling_is_refused_never_lowered(server: Serving, limits: Any, field: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        server.create(**limits)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bad_fields(refused.value) == [field]


@pytest.mark.parametrize(
    "odd",
    ["../../etc/passwd", "sbx_" + "A" * 22, "sbx_%00", "; DROP TABLE x; --", "sbx_é", "a" * 64, "*"],
)
def test_ids_that_do_not_exist_are_all_missing_in_the_same_words(server: Serving, odd: str) -> None:
    with pytest.raises(grpc.RpcError) as missing:
        server.run(odd, "1")
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as other:
        server.run("nothing", "1")
    assert missing.value.details().replace(odd, "?") == other.value.details().replace("nothing", "?")
    assert info_of(missing.value).reason == info_of(other.value).reason == "SANDBOX_NOT_FOUND"


def test_ids_are_long_random_and_never_used_twice(server: Serving) -> None:
    made = [server.create() for _ in range(5)]
    for sandbox in made:
        server.delete(sandbox)
    again = [server.create() for _ in range(5)]
    for sandbox in again:
        server.delete(sandbox)
    assert len({*made, *again}) == 10
    assert all(len(sandbox) >= 4 + 21 for sandbox in made)
    for one, other in itertools.pairwise(made):
        assert one[:10] != other[:10]  # no order, no shared beginning


def test_the_contract_is_what_is_served() -> None:
    assert descriptor_pool.Default().FindServiceByName("sandboxd_api.v1.ExecutionService")
    assert len(METHODS) > 25
