"""The gRPC surface as an outsider, a client without credentials and a careless client meet it."""

import itertools
import socket
import stat
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sandboxd_api.v1 import (
    database_service_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    sandbox_service_pb2,
    sandbox_service_pb2_grpc,
)

from tests.support.serving import Answer, Serving, spec_of

_FILES = (sandbox_service_pb2, execution_service_pb2, database_service_pb2)
_METHODS = [
    method
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def _call(server: Serving, method: Any, metadata: Any, request: Any = None) -> Any:
    """The first answer of a method, whatever its kind."""
    request = request or message_factory.GetMessageClass(method.input_type)()
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer = message_factory.GetMessageClass(method.output_type)
    kinds = {
        (False, False): server.channel.unary_unary,
        (False, True): server.channel.unary_stream,
        (True, False): server.channel.stream_unary,
        (True, True): server.channel.stream_stream,
    }
    make = kinds[method.client_streaming, method.server_streaming]
    call = make(
        path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
    )  # type: ignore[operator]
    given = iter([request]) if method.client_streaming else request
    result = call(given, metadata=metadata, timeout=20)
    return next(iter(result), None) if method.server_streaming else result


_NOT_LET_IN = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""No good token; or too many bad ones from here of late."""

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


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("credentials", ["none", "wrong"])
def test_every_method_needs_a_token(server: Serving, method: Any, credentials: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        _call(server, method, _BAD_CREDENTIALS[credentials])
    assert refused.value.code() in _NOT_LET_IN


@pytest.mark.parametrize("credentials", list(_BAD_CREDENTIALS))
def test_no_other_credential_passes(server: Serving, credentials: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        server.sandboxes.ListSandboxes(
            sandbox_service_pb2.ListSandboxesRequest(), metadata=_BAD_CREDENTIALS[credentials], timeout=20
        )
    assert refused.value.code() in (
        *_NOT_LET_IN,
        grpc.StatusCode.INTERNAL,
    )  # grpc refuses odd metadata itself
    assert server.token not in refused.value.details()


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
def test_an_empty_request_is_answered_or_refused_by_field(server: Serving, method: Any) -> None:
    try:
        _call(server, method, server.metadata)
    except grpc.RpcError as error:
        assert error.code() in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.PERMISSION_DENIED,
        ), error.details()
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            assert _info(error).domain == "sandboxd"


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
    assert {method.containing_service.full_name for method in _METHODS} <= listed
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.ServerReflectionInfo(iter([request]), timeout=20))
    assert refused.value.code() in _NOT_LET_IN


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
    assert _bad_fields(refused.value) == ["code"]


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
    assert _bad_fields(refused.value) == [field]


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
    assert _info(missing.value).reason == _info(other.value).reason == "SANDBOX_NOT_FOUND"


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


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("raise ValueError('x')", id="exception"),
        pytest.param("import json\njson.loads('{')", id="in_the_standard_library"),
        pytest.param("import pandas as pd\npd.DataFrame({'a': [1]})['b']", id="in_pandas"),
        pytest.param("import numpy as np\nnp.linalg.inv(np.zeros((2, 2)))", id="in_numpy"),
        pytest.param("def f(:", id="syntax_error"),
        pytest.param("import nothing_like_that", id="import_error"),
        pytest.param("open('/nothing')", id="missing_file"),
        pytest.param(
            "import asyncio\nasync def f(): raise KeyError\nawait asyncio.gather(f())", id="asyncio"
        ),
        pytest.param("x = bytearray(1 << 40)", id="memory"),
        pytest.param("def f(): f()\nf()", id="recursion"),
        pytest.param("import warnings\nwarnings.warn('x')", id="warning"),
    ],
)
@pytest.mark.parametrize("debugging", [False, True])
def test_no_answer_shows_a_path_or_a_name_of_the_host(server: Serving, code: str, debugging: bool) -> None:
    answer = server.quick(code, debugging=debugging)
    _assert_clean(server, answer.execution)


def test_no_refusal_shows_a_path_or_a_name_of_the_host(server: Serving) -> None:
    for method in _METHODS:
        try:
            _assert_clean(server, _call(server, method, server.metadata))
        except grpc.RpcError as error:
            assert not _leaks(server, error.details() or "")
            assert not _leaks(server, str(_status(error)))


def test_a_crash_report_is_the_users_own(server: Serving) -> None:
    answer = Answer(
        server.executions.QuickExecute(
            execution_service_pb2.QuickExecuteRequest(
                code="def f(n):\n    return 1 / n\nf(0)", spec=spec_of(debugging=True)
            ),
            metadata=server.metadata,
            timeout=30,
        ).execution
    )
    assert [frame.line for frame in answer.result.failure.frames] == [3, 2]
    assert "return 1 / n" in answer.result.failure.traceback


def test_the_port_is_loopbacks_and_the_token_is_its_owners(server: Serving) -> None:
    host, port = server.address.rsplit(":", 1)
    assert host == "127.0.0.1"
    mode = (server.data_directory / "token").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    own = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    for address in own:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.settimeout(1)
            assert probe.connect_ex((address, int(port))) != 0


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
            calls.append(stub.ListSandboxes.future(request, metadata=_BAD_CREDENTIALS["wrong"], timeout=30))
    assert server.output("print(1)") == "1"
    assert {call.exception(timeout=30).code() for call in calls} <= set(_NOT_LET_IN)


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


def _status(error: grpc.RpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def _info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for detail in _status(error).details:
        if detail.Unpack(info):
            break
    return info


def _bad_fields(error: grpc.RpcError) -> list[str]:
    bad = error_details_pb2.BadRequest()
    for detail in _status(error).details:
        if detail.Unpack(bad):
            return [violation.field for violation in bad.field_violations]
    return []


def _leaks(server: Serving, text: str) -> list[str]:
    needles = (
        "/usr", "/home", "/root", "/work", "/var/lib", "site-packages", "/lib/python", ".venv",
        socket.gethostname(), server.token, str(server.data_directory), str(server.pid),
    )  # fmt: skip
    return [needle for needle in needles if len(needle) > 4 and needle in text]


def _assert_clean(server: Serving, message: Any) -> None:
    text = str(message) if message is not None else ""
    assert not _leaks(server, text), text


def test_the_contract_is_what_is_served() -> None:
    assert descriptor_pool.Default().FindServiceByName("sandboxd_api.v1.ExecutionService")
    assert len(_METHODS) > 25
