"""What was acknowledged is there after a restart, and a request id runs once, whatever happens between."""

import os
import signal
import uuid
from pathlib import Path

import grpc
import pytest
from sandboxd_api.v1 import execution_pb2, sandbox_pb2
from sandboxd_api.v1 import execution_service_pb2 as execution_service
from sandboxd_api.v1 import sandbox_service_pb2 as sandbox_service

from tests.support.serving import Serving, serving


def _execute(server: Serving, sandbox_id: str, code: str, request_id: str = "") -> execution_pb2.Execution:
    request = execution_service.ExecuteRequest(sandbox_id=sandbox_id, code=code, request_id=request_id)
    return server.executions.Execute(request, metadata=server.metadata, timeout=30).execution


def _get(server: Serving, execution_id: str) -> execution_pb2.Execution:
    request = execution_service.GetExecutionRequest(execution_id=execution_id)
    return server.executions.GetExecution(request, metadata=server.metadata, timeout=30).execution


def test_same_request_id_gives_the_first_outcome_and_runs_once(server: Serving) -> None:
    sandbox_id = server.create()
    server.run(sandbox_id, "runs = 0")
    request_id = str(uuid.uuid4())
    first = _execute(server, sandbox_id, "runs += 1\nruns", request_id)
    second = _execute(server, sandbox_id, "runs += 1\nruns", request_id)
    assert second.id == first.id
    assert second.result.value.integer == 1
    assert _execute(server, sandbox_id, "runs").result.value.integer == 1


def test_same_request_id_with_other_code_is_refused(server: Serving) -> None:
    sandbox_id = server.create()
    request_id = str(uuid.uuid4())
    _execute(server, sandbox_id, "1", request_id)
    with pytest.raises(grpc.RpcError) as caught:
        _execute(server, sandbox_id, "2", request_id)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_same_request_id_for_a_sandbox_gives_the_first_sandbox(server: Serving) -> None:
    request = sandbox_service.CreateSandboxRequest(request_id=str(uuid.uuid4()))
    ids = {
        server.sandboxes.CreateSandbox(request, metadata=server.metadata, timeout=30).sandbox.id
        for _ in range(2)
    }
    assert len(ids) == 1


def test_quick_execute_with_one_request_id_runs_once(server: Serving) -> None:
    request = execution_service.QuickExecuteRequest(
        code="import uuid\nstr(uuid.uuid4())", request_id=str(uuid.uuid4())
    )
    answers = {
        server.executions.QuickExecute(
            request, metadata=server.metadata, timeout=30
        ).execution.result.value.text
        for _ in range(2)
    }
    assert len(answers) == 1


def test_history_and_request_ids_survive_a_killed_server(tmp_path: Path) -> None:
    request_id = str(uuid.uuid4())
    with serving(data_directory=str(tmp_path)) as before:
        sandbox_id = before.create()
        first = _execute(before, sandbox_id, "print('once')\n6 * 7", request_id)
        running = before.start(sandbox_id, "import time\ntime.sleep(60)")
        _wait_until_running(before, sandbox_id)
        os.kill(before.pid, signal.SIGKILL)
        before.process.wait()
        assert isinstance(running.exception(timeout=10), grpc.RpcError)
    with serving(data_directory=str(tmp_path)) as after:
        again = _get(after, first.id)
        assert again.result.value.integer == 42
        assert again.result.stdout.data == b"once\n"
        listed = _listed(after, sandbox_id)
        states = {execution_pb2.Execution.State.Name(item.state) for item in listed}
        assert states == {"STATE_SUCCEEDED", "STATE_ABORTED"}
        assert _state_of(after, sandbox_id) == sandbox_pb2.Sandbox.STATE_ABORTED


def _listed(server: Serving, sandbox_id: str) -> list[execution_pb2.Execution]:
    request = execution_service.ListExecutionsRequest(sandbox_id=sandbox_id)
    return list(server.executions.ListExecutions(request, metadata=server.metadata, timeout=30).executions)


def _wait_until_running(server: Serving, sandbox_id: str) -> None:
    for _ in range(1000):
        if any(item.state == execution_pb2.Execution.STATE_RUNNING for item in _listed(server, sandbox_id)):
            return
    raise AssertionError("the execution never ran")


def _state_of(server: Serving, sandbox_id: str) -> int:
    request = sandbox_service.GetSandboxRequest(sandbox_id=sandbox_id)
    return server.sandboxes.GetSandbox(request, metadata=server.metadata, timeout=30).sandbox.state


def test_killed_server_with_a_pending_request_id_tells_that_the_outcome_is_unknown(tmp_path: Path) -> None:
    request_id = str(uuid.uuid4())
    code = "import time\ntime.sleep(60)"
    with serving(data_directory=str(tmp_path)) as before:
        sandbox_id = before.create()
        request = execution_service.ExecuteRequest(sandbox_id=sandbox_id, code=code, request_id=request_id)
        pending = before.executions.Execute.future(request, metadata=before.metadata)
        _wait_until_running(before, sandbox_id)
        os.kill(before.pid, signal.SIGKILL)
        before.process.wait()
        assert pending.exception(timeout=10) is not None
    with serving(data_directory=str(tmp_path)) as after:
        [only] = _listed(after, sandbox_id)
        assert only.state == execution_pb2.Execution.STATE_ABORTED
        assert _get(after, only.id).result.failure.kind == execution_pb2.Failure.KIND_OUTCOME_UNKNOWN
