"""Debugging inside real sandboxes, over gRPC."""

import time
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from sandboxd_api.v1 import debug_pb2, execution_pb2, trace_pb2
from sandboxd_api.v1 import debug_session_pb2 as wire
from sandboxd_api.v1 import execution_service_pb2 as pb

from tests.debugger.talk import Talk
from tests.support.serving import Serving, options_of

WISH_LIST = """\
data = [1, 2, 3, 4, 5]
debug('Starting processing', 'INFO')

result = []
for item in data:
    processed = item * 2
    result.append(processed)
    debug(f'Processed item {item} -> {processed}', 'DEBUG')

debug('Processing complete', 'INFO')
__result__ = result
"""


def debug_events(server: Serving, sandbox: str, code: str, **options: Any) -> list[debug_pb2.DebugEvent]:
    request = pb.DebugRequest(
        sandbox_id=sandbox, code=code, debug_options=debug_pb2.DebugOptions(**options), options=options_of(20)
    )
    return [item.event for item in server.executions.Debug(request, metadata=server.metadata, timeout=60)]


def finished(events: list[debug_pb2.DebugEvent]) -> debug_pb2.DebugFinished:
    assert events[-1].WhichOneof("event") == "finished"
    return events[-1].finished


def test_the_wish_lists_loop_reads_full_steps(server: Serving, sandbox: str) -> None:
    events = debug_events(server, sandbox, WISH_LIST, detail=debug_pb2.DebugOptions.DETAIL_FULL)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    steps = [event.step for event in events if event.WhichOneof("event") == "step"]
    assert steps[0].line == 1
    body = next(step for step in steps if step.line == 7)
    assert body.source_line == "    result.append(processed)"
    assert body.state == execution_pb2.Execution.STATE_RUNNING
    assert {variable.name: variable.text for variable in body.variables} == {
        "data": "[1, 2, 3, 4, 5]",
        "result": "[]",
        "item": "1",
        "processed": "2",
    }
    done = finished(events)
    assert [item.integer for item in done.execution.result.value.list.items] == [2, 4, 6, 8, 10]
    assert sum(event.WhichOneof("event") == "log_entry" for event in events) == 7


def test_delta_batches_cover_every_step_and_output_by_offset(server: Serving, sandbox: str) -> None:
    events = debug_events(server, sandbox, "for i in range(5000):\n    if i % 1000 == 0:\n        print(i)\n")
    batches = [event.batch for event in events if event.WhichOneof("event") == "batch"]
    done = finished(events)
    assert sum(batch.columns.step_count for batch in batches) == done.summary.recorded_step_count
    written = b"".join(event.stdout.data for event in events if event.WhichOneof("event") == "stdout")
    assert written == done.execution.result.stdout.data
    counted = sum(sum(batch.columns.stdout_bytes) for batch in batches)
    assert counted == len(written)


def test_the_first_step_arrives_before_the_program_ends(server: Serving, sandbox: str) -> None:
    code = "import time\nx = 1\ntime.sleep(1.5)\n"
    request = pb.DebugRequest(sandbox_id=sandbox, code=code)
    start = time.monotonic()
    call = server.executions.Debug(request, metadata=server.metadata, timeout=60)
    next(item for item in call if item.event.WhichOneof("event") == "batch")
    assert time.monotonic() - start < 1.2
    assert list(call)[-1].event.WhichOneof("event") == "finished"


def test_questions_about_a_finished_run_are_answered(server: Serving, sandbox: str) -> None:
    events = debug_events(server, sandbox, WISH_LIST, detail=debug_pb2.DebugOptions.DETAIL_SUMMARY)
    assert not any(event.WhichOneof("event") in ("batch", "step") for event in events)
    query = trace_pb2.TraceQuery(when_changed=trace_pb2.TraceQuery.WhenChanged(name="processed"))
    request = pb.QueryTraceRequest(execution_id=finished(events).execution.id, query=query)
    answer = server.executions.QueryTrace(request, metadata=server.metadata).answer
    assert [change.text for change in answer.changes.changes] == [
        "unbound -> 2", "2 -> 4", "4 -> 6", "6 -> 8", "8 -> 10",
    ]  # fmt: skip


def test_a_question_about_an_untraced_run_is_refused(server: Serving, sandbox: str) -> None:
    request = pb.ExecuteRequest(sandbox_id=sandbox, code="x = 1")
    execution = server.executions.Execute(request, metadata=server.metadata).execution
    query = trace_pb2.TraceQuery(lines_not_reached=trace_pb2.TraceQuery.LinesNotReached())
    with pytest.raises(grpc.RpcError) as refused:
        server.executions.QueryTrace(
            pb.QueryTraceRequest(execution_id=execution.id, query=query), metadata=server.metadata
        )
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_breakpoint_session_steps_evaluates_and_changes(server: Serving, sandbox: str) -> None:
    talk = Talk(server, sandbox, WISH_LIST, breakpoints=[wire.Breakpoint(line=7, condition="item == 3")])
    stop = talk.until("stopped")
    assert (stop.line, stop.reason) == (7, wire.Stopped.REASON_BREAKPOINT)
    assert {variable.name: variable.text for variable in stop.changed_variables}["processed"] == "6"
    value = talk.ask("evaluated", evaluate=wire.Evaluate(expression="processed + item")).value
    assert value.summary == "9"
    talk.ask("variable_set", set_variable=wire.SetVariable(name="processed", expression="600"))
    assert talk.resume("STEP_OVER").line == 8
    done = talk.end()
    assert [item.integer for item in done.execution.result.value.list.items] == [2, 4, 600, 8, 10]


def test_a_running_program_is_paused(server: Serving, sandbox: str) -> None:
    talk = Talk(server, sandbox, "n = 0\nwhile n >= 0:\n    n += 1\n", stop_at_entry=True)
    talk.until("stopped")
    talk.send(resume=wire.Resume(mode=wire.Resume.MODE_CONTINUE))
    stop = talk.ask("stopped", pause=wire.Pause())
    assert stop.reason == wire.Stopped.REASON_PAUSE
    talk.ask("variable_set", set_variable=wire.SetVariable(name="n", expression="-10"))
    done = talk.end()
    assert done.execution.state == execution_pb2.Execution.STATE_SUCCEEDED


def test_time_at_a_stop_is_not_run_time(server: Serving, sandbox: str) -> None:
    talk = Talk(server, sandbox, "x = 1\ny = 2\n", stop_at_entry=True, seconds=1)
    stop = talk.until("stopped")
    time.sleep(1.5)  # longer than the limit; what is tested is that time does not count
    assert stop.remaining_time.ToNanoseconds() > 0
    assert talk.end().execution.state == execution_pb2.Execution.STATE_SUCCEEDED


def test_a_program_that_only_says_it_is_stopped_is_held_to_its_time(server: Serving, sandbox: str) -> None:
    # The clock stood still for it, for up to an hour at each forged stop.
    forged = (
        "import os\nfrom sandboxd.channel.debug import DebugStopped\n"
        "from sandboxd.channel.framing import encode_frame\n"
        "os.write(3, encode_frame(DebugStopped(run_id=1, payload=b'', reason=1)))\n"
        "while True: pass\n"
    )
    talk = Talk(server, sandbox, forged, seconds=0.5, pause_timeout=duration_pb2.Duration(seconds=30))
    talk.until("stopped")
    assert talk.until("finished").execution.state == execution_pb2.Execution.STATE_TIMED_OUT


def test_a_stop_that_lasts_too_long_ends_the_run(server: Serving, sandbox: str) -> None:
    limit = duration_pb2.Duration(nanos=300_000_000)
    talk = Talk(server, sandbox, "x = 1\ny = 2\n", stop_at_entry=True, pause_timeout=limit)
    talk.until("stopped")
    done = talk.until("finished")
    assert done.execution.state == execution_pb2.Execution.STATE_CANCELLED


def test_the_time_limit_holds_while_debugging(server: Serving, sandbox: str) -> None:
    request = pb.DebugRequest(
        sandbox_id=sandbox,
        code="while True:\n    x = 1\n",
        options=options_of(0.5),
        debug_options=debug_pb2.DebugOptions(detail=debug_pb2.DebugOptions.DETAIL_SUMMARY),
    )
    events = [item.event for item in server.executions.Debug(request, metadata=server.metadata, timeout=60)]
    assert finished(events).execution.state == execution_pb2.Execution.STATE_TIMED_OUT


def test_a_reader_that_leaves_ends_the_run(server: Serving, sandbox: str) -> None:
    talk = Talk(server, sandbox, "while True:\n    x = 1\n", stop_at_entry=True, seconds=20)
    talk.until("stopped")
    talk.call.cancel()
    answer = server.run(sandbox, "__result__ = 7", seconds=10)
    assert answer.state == "SUCCEEDED", answer.describe()


def test_an_ended_session_cancels_the_run_and_keeps_the_sandbox(server: Serving, sandbox: str) -> None:
    talk = Talk(server, sandbox, "kept = 5\nwhile True:\n    x = 1\n", breakpoints=[wire.Breakpoint(line=3)])
    talk.until("stopped")
    done = talk.ask("finished", end=wire.EndSession())
    assert done.execution.state == execution_pb2.Execution.STATE_CANCELLED
    assert server.run(sandbox, "print(kept)").stdout == "5"


def test_functions_of_a_debug_run_work_in_later_executions(server: Serving, sandbox: str) -> None:
    debug_events(server, sandbox, "def f(v):\n    v.append(1)\n    len(v)\n    return v\nf([])\n")
    assert server.run(sandbox, "print(f([0]))").stdout == "[0, 1]"


def test_the_tracer_obeys_the_memory_limit(server: Serving) -> None:
    small = server.create(debugging=True, memory_bytes=64 * 1024 * 1024)
    events = debug_events(server, small, "a = []\nwhile True:\n    a.append('x' * 1_000_000)\n")
    assert finished(events).execution.state in (
        execution_pb2.Execution.STATE_FAILED,
        execution_pb2.Execution.STATE_ABORTED,
    )
    assert finished(events).execution.result.failure.kind == execution_pb2.Failure.KIND_OUT_OF_MEMORY
    server.delete(small)


def test_a_second_start_ends_the_session(server: Serving, sandbox: str) -> None:
    talk = Talk(server, sandbox, "x = 1\ny = 2\n", stop_at_entry=True)
    talk.until("stopped")
    talk.send(start=wire.StartDebugging(sandbox_id=sandbox, code="x"))
    with pytest.raises(grpc.RpcError) as ended:
        list(talk.call)
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
