"""grpcurl lists, describes and calls the services with reflection alone."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from sandboxd_api.v1 import execution_service_pb2, sandbox_service_pb2

from tests.support.server_process import Server

pytestmark = pytest.mark.timeout(400)  # the first run installs the client

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def call(grpcurl: Path, server: Server) -> Call:
    """Runs grpcurl with the server's token."""

    def run(*arguments: str, data: Any = None, token: bool = True) -> "subprocess.CompletedProcess[str]":
        options = ["-plaintext"]
        if token:
            options += ["-H", f"authorization: Bearer {server.token}"]
        if data is not None:
            options += ["-d", json.dumps(data)]
        return subprocess.run(
            [str(grpcurl), *options, server.tcp, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def _documents(text: str) -> list[Any]:
    """The JSON documents that grpcurl prints one after the other."""
    found, decoder, place = [], json.JSONDecoder(), 0
    while place < len(text):
        document, place = decoder.raw_decode(text, place)
        found.append(document)
        while place < len(text) and text[place].isspace():
            place += 1
    return found


def _created(call: Call) -> str:
    (answer,) = _documents(call("sandboxd_api.v1.SandboxService/CreateSandbox", data={}).stdout)
    sandbox_id: str = answer["sandbox"]["id"]
    return sandbox_id


def test_services_are_listed(call: Call) -> None:
    listed = call("list").stdout.split()
    assert {
        "sandboxd_api.v1.SandboxService",
        "sandboxd_api.v1.ExecutionService",
        "sandboxd_api.v1.DatabaseService",
        "grpc.health.v1.Health",
    } <= set(listed)


@pytest.mark.parametrize("module", [sandbox_service_pb2, execution_service_pb2], ids=["sandbox", "execution"])
def test_service_is_described_with_every_method(call: Call, module: Any) -> None:
    (service,) = module.DESCRIPTOR.services_by_name.values()
    described = call("describe", service.full_name).stdout
    for method in service.methods:
        assert f"rpc {method.name} (" in described
    message = call("describe", "sandboxd_api.v1.Limits").stdout
    assert "memory_bytes" in message


def test_health_needs_no_token(grpcurl: Path, server: Server, tmp_path: Path) -> None:
    described = descriptor_pb2.FileDescriptorSet()
    health_pb2.DESCRIPTOR.CopyToProto(described.file.add())
    protoset = tmp_path / "health.binpb"
    protoset.write_bytes(described.SerializeToString())
    found = subprocess.run(
        [
            str(grpcurl),
            "-plaintext",
            "-protoset",
            str(protoset),
            server.tcp,
            "grpc.health.v1.Health/Check",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert _documents(found.stdout) == [{"status": "SERVING"}]


def test_call_without_a_token_is_refused(call: Call) -> None:
    found = call("list", token=False)
    assert "Unauthenticated" in found.stderr + found.stdout


def test_code_is_executed_and_streamed(call: Call) -> None:
    sandbox_id = _created(call)
    (answer,) = _documents(
        call(
            "sandboxd_api.v1.ExecutionService/Execute", data={"sandbox_id": sandbox_id, "code": "6 * 7"}
        ).stdout
    )
    assert answer["execution"]["result"]["value"] == {"integer": "42"}
    events = _documents(
        call(
            "sandboxd_api.v1.ExecutionService/StreamExecute",
            data={"sandboxId": sandbox_id, "code": "print('hi')"},
        ).stdout
    )
    assert "finished" in events[-1]["event"]
    assert [event["event"]["sequence"] for event in events] == [
        str(number) for number in range(1, len(events) + 1)
    ]
    deleted = call("sandboxd_api.v1.SandboxService/DeleteSandbox", data={"sandbox_id": sandbox_id})
    assert "STATE_DELETED" in deleted.stdout


def test_error_shows_code_field_and_reason(call: Call) -> None:
    found = call("sandboxd_api.v1.SandboxService/GetSandbox", data={"sandbox_id": "sbx_" + "a" * 26})
    assert found.returncode != 0
    assert "NotFound" in found.stderr
    assert "SANDBOX_NOT_FOUND" in found.stderr
    bad = call("sandboxd_api.v1.SandboxService/CreateSandbox", data={"spec": {"limits": {"threads": 100000}}})
    assert "InvalidArgument" in bad.stderr
    assert "limits.threads" in bad.stderr
    assert "100000" in bad.stderr


def test_unix_socket_is_reached(grpcurl: Path, server: Server) -> None:
    found = subprocess.run(
        [
            str(grpcurl),
            "-plaintext",
            "-unix",
            "-H",
            f"authorization: Bearer {server.token}",
            "-d",
            json.dumps({"code": "1 + 1"}),
            server.unix.removeprefix("unix:"),
            "sandboxd_api.v1.ExecutionService/QuickExecute",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (answer,) = _documents(found.stdout)
    assert answer["execution"]["result"]["value"] == {"integer": "2"}


def test_debug_steps_are_streamed(call: Call) -> None:
    sandbox_id = _created(call)
    events = _documents(
        call(
            "sandboxd_api.v1.ExecutionService/Debug",
            data={
                "sandbox_id": sandbox_id,
                "code": "a = 1\na + 1",
                "debug_options": {"detail": "DETAIL_FULL"},
            },
        ).stdout
    )
    lines = [event["event"]["step"]["line"] for event in events if "step" in event["event"]]
    assert lines[:2] == [1, 2]
    assert "finished" in events[-1]["event"]
    call("sandboxd_api.v1.SandboxService/DeleteSandbox", data={"sandbox_id": sandbox_id})
