"""A retried call never runs code twice, and a lost connection loses no outcome."""

import threading
import uuid

import grpc
import pytest
from sandboxd_api.v1 import execution_pb2
from sandboxd_api.v1 import execution_service_pb2 as pb
from sandboxd_api.v1 import sandbox_service_pb2 as sandbox_service

from tests.support.serving import Serving, serving
from tests.support.sessions import Sandbox, sandbox, wait_until

_DETACH = execution_pb2.ExecutionOptions.ON_DISCONNECT_DETACH


def _counted(one: Sandbox) -> int:
    return int(one.value("count"))


def test_retry_returns_the_first_outcome_and_runs_nothing(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("count = 0")
        request_id = str(uuid.uuid4())
        first = one.execute("count += 1\ncount", request_id=request_id)
        again = one.execute("count += 1\ncount", request_id=request_id)
        assert again.id == first.id
        assert again.result.value == first.result.value
        assert _counted(one) == 1


def test_retry_of_a_failure_returns_the_failure(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("count = 0")
        request_id = str(uuid.uuid4())
        first = one.execute("count += 1\n1 / 0", request_id=request_id)
        again = one.execute("count += 1\n1 / 0", request_id=request_id)
        assert (again.id, again.result.failure.kind) == (first.id, first.result.failure.kind)
        assert _counted(one) == 1


def test_concurrent_calls_with_one_id_run_once(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("count = 0; import time")
        request_id = str(uuid.uuid4())
        found: list[str] = []

        def call() -> None:
            found.append(one.execute("time.sleep(0.3); count += 1", request_id=request_id).id)

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert (len(found), len(set(found))) == (8, 1)
        assert _counted(one) == 1


def test_id_with_other_content_is_refused(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        request_id = str(uuid.uuid4())
        one.execute("x = 1", request_id=request_id)
        with pytest.raises(grpc.RpcError) as reused:
            one.execute("x = 2", request_id=request_id)
        assert reused.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert one.value("x") == 1


def test_retried_creation_gives_the_same_sandbox(leak_free: Serving) -> None:
    request = sandbox_service.CreateSandboxRequest(request_id=str(uuid.uuid4()))
    create = leak_free.sandboxes.CreateSandbox
    first = create(request, metadata=leak_free.metadata).sandbox
    assert create(request, metadata=leak_free.metadata).sandbox.id == first.id
    leak_free.delete(first.id)


def test_retried_stream_gives_the_events_of_the_first(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("count = 0")
        request = pb.StreamExecuteRequest(
            sandbox_id=one.id, code="count += 1\nprint('hello')", request_id=str(uuid.uuid4())
        )
        stream = leak_free.executions.StreamExecute
        first = [answer.event for answer in stream(request, metadata=leak_free.metadata)]
        again = [answer.event for answer in stream(request, metadata=leak_free.metadata)]
        assert [event.sequence for event in again] == list(range(1, len(again) + 1))
        assert [event.WhichOneof("event") for event in again] == [e.WhichOneof("event") for e in first]
        assert _counted(one) == 1


def test_watching_reattaches_where_the_stream_was_lost(leak_free: Serving) -> None:
    code = "import time\nfor number in range(6):\n    print(number, flush=True); time.sleep(0.1)"
    options = execution_pb2.ExecutionOptions(on_disconnect=_DETACH)
    with sandbox(leak_free) as one:
        request = pb.StreamExecuteRequest(sandbox_id=one.id, code=code, options=options)
        stream = leak_free.executions.StreamExecute(request, metadata=leak_free.metadata)
        seen = []
        for answer in stream:
            seen.append(answer.event)
            if answer.event.WhichOneof("event") == "stdout":
                break
        stream.cancel()  # the connection is lost
        watch = pb.WatchExecutionRequest(execution_id=seen[0].execution_id, after_sequence=seen[-1].sequence)
        rest = [a.event for a in leak_free.executions.WatchExecution(watch, metadata=leak_free.metadata)]
        sequences = [event.sequence for event in seen + rest]
        assert sequences == list(range(1, len(sequences) + 1))
        text = b"".join(event.stdout.data for event in seen + rest if event.WhichOneof("event") == "stdout")
        assert text.split() == [b"0", b"1", b"2", b"3", b"4", b"5"]
        assert rest[-1].finished.execution.state == execution_pb2.Execution.STATE_SUCCEEDED


def test_watching_a_finished_execution_replays_it(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        done = one.execute("print('x')")
        watch = pb.WatchExecutionRequest(execution_id=done.id)
        events = [a.event for a in leak_free.executions.WatchExecution(watch, metadata=leak_free.metadata)]
        assert events[-1].WhichOneof("event") == "finished"
        assert events[-1].sequence == done.last_sequence


def test_disconnect_cancels_by_default_and_detaches_when_asked(leak_free: Serving) -> None:
    code = "import time\nstarted = 1\ntime.sleep(1)\nfinished = 1"
    for options, expected in (({}, "STATE_CANCELLED"), ({"on_disconnect": _DETACH}, "STATE_SUCCEEDED")):
        with sandbox(leak_free) as one:
            request = pb.ExecuteRequest(
                sandbox_id=one.id, code=code, options=execution_pb2.ExecutionOptions(**options)
            )
            call = leak_free.executions.Execute.future(request, metadata=leak_free.metadata)
            wait_until(lambda sandbox=one: bool(sandbox.running()), seconds=5, what="it runs")
            execution_id = one.running()
            call.cancel()
            get = pb.GetExecutionRequest(execution_id=execution_id)
            get.wait.FromSeconds(10)
            ended = leak_free.executions.GetExecution(get, metadata=leak_free.metadata).execution
            assert execution_pb2.Execution.State.Name(ended.state) == expected


def test_request_id_holds_across_a_restart_of_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("data")
    request_id = str(uuid.uuid4())
    request = pb.QuickExecuteRequest(code="import uuid; str(uuid.uuid4())", request_id=request_id)
    with serving(data_directory=str(directory)) as first:
        before = first.executions.QuickExecute(request, metadata=first.metadata).execution
    with serving(data_directory=str(directory)) as second:
        after = second.executions.QuickExecute(request, metadata=second.metadata).execution
    assert (after.id, after.result.value) == (before.id, before.result.value)
