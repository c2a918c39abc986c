"""Two principals on one server: what belongs to the other looks, in every method, as if it were not there."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from sandboxd_api.v1 import (
    database_service_pb2,
    execution_pb2,
    execution_service_pb2,
    sandbox_service_pb2,
)

from sandboxd.accounts.principals import Role
from sandboxd.accounts.tokens import create_token
from tests.support.serving import Serving

_ID_FIELDS = ("sandbox_id", "execution_id")
_METHODS = [
    method
    for file in (sandbox_service_pb2, execution_service_pb2, database_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming and set(_ID_FIELDS) & set(method.input_type.fields_by_name)
]
_LISTS = ("ListExecutions", "ListQueries", "GetStatistics", "ListFunctions", "ListExamples", "AnalyzeData")
"""Here the id is a filter, or may be left out: a foreign one gives what a missing one gives."""
_FILL = {"code": "1", "sql": "SELECT 1", "name": "x", "table": "users", "variable": "x", "checkpoint_id": "x"}


@pytest.fixture
def stranger(server: Serving) -> tuple[tuple[str, str], ...]:
    """Metadata of somebody else."""
    token, _ = create_token(server.data_directory / "tokens.json", principal="stranger", role=Role.SERVICE)
    return (("authorization", f"Bearer {token}"),)


def _outcome(
    server: Serving, method: Any, metadata: Any, sandbox_id: str, execution_id: str
) -> tuple[str, str]:
    """Code and text, ids taken out; or OK and the answer."""
    request = message_factory.GetMessageClass(method.input_type)()
    fields = method.input_type.fields_by_name
    for name, value in {**_FILL, "sandbox_id": sandbox_id, "execution_id": execution_id}.items():
        if name in fields and fields[name].message_type is None:
            setattr(request, name, value)
    if "query" in fields and method.name == "QueryTrace":
        request.query.SetInParent()
    make: Callable[..., Any] = (
        server.channel.unary_stream if method.server_streaming else server.channel.unary_unary
    )
    call = make(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    try:
        answer = call(request, metadata=metadata, timeout=30)
        said = str(list(answer)) if method.server_streaming else str(answer)
        code = "OK"
    except grpc.RpcError as error:
        code, said = error.code().name, str(error.details())
    for shown in (sandbox_id, execution_id):
        said = said.replace(shown, "?")
    return code, said


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
def test_what_is_anothers_is_answered_as_what_is_missing(
    server: Serving, stranger: tuple[tuple[str, str], ...], method: Any
) -> None:
    sandbox = server.create()
    execution = server.run(sandbox, "print('mine')").execution.id
    try:
        foreign = _outcome(server, method, stranger, sandbox, execution)
        missing = _outcome(server, method, stranger, "sbx_" + "Z" * 22, "exe_" + "Z" * 22)
        assert foreign[0] == missing[0]
        if method.name not in _LISTS:
            assert foreign == missing
            assert foreign[0] == "NOT_FOUND"
        assert "mine" not in foreign[1]
        # The control: to its owner it is there, whatever else the call lacks.
        assert _outcome(server, method, server.metadata, sandbox, execution)[0] != "NOT_FOUND" or (
            method.name in ("DropCheckpoint", "RewindSandbox", "ForkSandbox", "QueryTrace")
        )
    finally:
        try:
            server.delete(sandbox)
        except grpc.RpcError as error:
            assert method.name == "DeleteSandbox", error


def test_foreign_and_missing_take_the_same_time(
    server: Serving, stranger: tuple[tuple[str, str], ...]
) -> None:
    sandbox = server.create()
    [method] = [method for method in _METHODS if method.name == "Execute"]
    times: dict[str, list[float]] = {sandbox: [], "sbx_" + "Z" * 22: []}
    for _ in range(100):
        for name, taken in times.items():
            asked = time.perf_counter()
            assert _outcome(server, method, stranger, name, "x")[0] == "NOT_FOUND"
            taken.append(time.perf_counter() - asked)
    foreign, missing = (statistics.median(taken) for taken in times.values())
    assert 0.5 < foreign / missing < 2.0
    server.delete(sandbox)


def test_lists_and_figures_are_ones_own(server: Serving, stranger: tuple[tuple[str, str], ...]) -> None:
    sandbox = server.create()
    server.run(sandbox, "await db_query('SELECT 1')")
    sandboxes = server.sandboxes.ListSandboxes(
        sandbox_service_pb2.ListSandboxesRequest(), metadata=stranger, timeout=20
    )
    executions = server.executions.ListExecutions(
        execution_service_pb2.ListExecutionsRequest(), metadata=stranger, timeout=20
    )
    assert not sandboxes.sandboxes
    assert not executions.executions
    server.delete(sandbox)


def test_user_cannot_name_another_user_and_figures_of_all_need_a_role(server: Serving) -> None:
    token, _ = create_token(server.data_directory / "tokens.json", principal="eve", role=Role.USER)
    metadata = (("authorization", f"Bearer {token}"), ("x-user-id", "ada"), ("user_id", "ada"))
    for request in (
        sandbox_service_pb2.CreateSandboxRequest(user_id="ada"),
        sandbox_service_pb2.CreateSandboxRequest(user_id="local"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            server.sandboxes.CreateSandbox(request, metadata=metadata, timeout=20)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as refused:
        server.executions.QuickExecute(
            execution_service_pb2.QuickExecuteRequest(user_id="ada", code="1"), metadata=metadata, timeout=20
        )
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as refused:
        server.sandboxes.GetStatistics(
            sandbox_service_pb2.GetStatisticsRequest(all_users=True), metadata=metadata, timeout=20
        )
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    made = server.executions.QuickExecute(
        execution_service_pb2.QuickExecuteRequest(code="1"), metadata=metadata, timeout=20
    ).execution
    assert made.user_id == "eve"  # whatever the headers say
    assert made.state == execution_pb2.Execution.STATE_SUCCEEDED
