"""A Node program that knows nothing but reflection calls every method, streams included."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sandboxd_api.v1 import database_service_pb2, execution_service_pb2, sandbox_service_pb2

from tests.support.server_process import Server

pytestmark = pytest.mark.timeout(400)  # the first run installs the client

_SERVICES = {
    **sandbox_service_pb2.DESCRIPTOR.services_by_name,
    **execution_service_pb2.DESCRIPTOR.services_by_name,
    **database_service_pb2.DESCRIPTOR.services_by_name,
}
_OUR_BUGS = {"INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "UNAVAILABLE", "DATA_LOSS"}


@pytest.fixture(scope="session")
def found(server: Server, node_directory: Path) -> dict[str, Any]:
    """What the program printed."""
    program = Path(__file__).with_name("client.js")
    done = subprocess.run(
        ["node", str(program), server.tcp, server.token],
        env=os.environ | {"NODE_PATH": str(node_directory / "node_modules")},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_reflection_tells_every_service_and_method(found: dict[str, Any]) -> None:
    assert {f"sandboxd_api.v1.{name}" for name in _SERVICES} <= set(found["services"])
    assert "grpc.health.v1.Health" in found["services"]
    told = {name: sorted(methods) for name, methods in found["methods"].items()}
    assert told == {
        name: sorted(method.name for method in service.methods) for name, service in _SERVICES.items()
    }


def test_every_method_answers_an_empty_request_with_a_status_of_the_contract(found: dict[str, Any]) -> None:
    wrong = {name: answer for name, answer in found["empty"].items() if answer["code"] in _OUR_BUGS}
    assert wrong == {}
    assert len(found["empty"]) == sum(len(service.methods) for service in _SERVICES.values())


def test_main_job_works_from_another_language(found: dict[str, Any]) -> None:
    job = found["job"]
    assert job["created"]["code"] == "OK"
    execution = job["executed"]["answer"]["execution"]
    assert execution["state"] == "STATE_SUCCEEDED"
    assert execution["result"]["value"]["integer"] == str(2**53 + 1)
    assert job["deleted"]["answer"]["sandbox"]["state"] == "STATE_DELETED"


def test_events_stream_to_another_language(found: dict[str, Any]) -> None:
    streamed = found["job"]["streamed"]
    assert streamed["code"] == "OK"
    events = [answer["event"] for answer in streamed["events"]]
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "finished"
    assert "stdout" in kinds
    assert events[-1]["finished"]["execution"]["result"]["value"]["integer"] == str(2**53 + 1)


def test_rows_stream_to_another_language(found: dict[str, Any]) -> None:
    queried = found["job"]["queried"]
    assert queried["code"] == "OK", queried
    kinds = [answer["event"] for answer in queried["events"]]
    assert (kinds[0], kinds[-1]) == ("header", "trailer")
    assert [column["name"] for column in queried["events"][0]["header"]["columns"]] == ["id", "name"]
    assert queried["events"][-1]["trailer"]["row_count"] == "2"


def test_errors_carry_details_to_another_language(found: dict[str, Any]) -> None:
    refused = found["job"]["refused"]
    assert refused["code"] == "INVALID_ARGUMENT"
    assert "memory_bytes" in refused["details"]
    assert refused["rich"] == 1


def test_steps_stream_to_another_language(found: dict[str, Any]) -> None:
    steps = found["debugging"]["steps"]
    assert steps["code"] == "OK", steps
    events = [answer["event"] for answer in steps["events"]]
    assert (events[0]["event"], events[-1]["event"]) == ("started", "finished")
    lines = [event["step"]["line"] for event in events if event["event"] == "step"]
    assert lines[:3] == [1, 2, 3]


def test_session_is_held_from_another_language(found: dict[str, Any]) -> None:
    session = found["debugging"]["session"]
    assert session["code"] == "OK", session
    stops = [answer["stopped"] for answer in session["events"] if answer["event"] == "stopped"]
    assert [(stop["reason"], stop["line"]) for stop in stops] == [
        ("REASON_ENTRY", 1),
        ("REASON_STEP", 2),
        ("REASON_STEP", 3),
    ]
    last = session["events"][-1]
    assert last["event"] == "finished"
    assert last["finished"]["execution"]["result"]["value"]["integer"] == "2"
