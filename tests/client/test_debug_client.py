"""How the client reads debug runs: complete steps, differences, and the talk of a session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from sandboxd_api.v1 import (
    debug_pb2,
    debug_session_pb2,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    sandbox_pb2,
    sandbox_service_pb2,
    sandbox_service_pb2_grpc,
    step_pb2,
    trace_pb2,
)
from sandboxd_client import Breakpoint, Client, CommandRefused, DebugFinished, DebugStep, Sandbox, Stopped
from sandboxd_client.debug_steps import BatchReader
from sandboxd_client.debug_values import debug_natural, debug_text
from sandboxd_client.debugging import DebugOutput

_CODE = "a = 1\nb = [a]\nb"
_LINE, _EXPRESSION = step_pb2.STEP_EVENT_LINE, step_pb2.STEP_EVENT_EXPRESSION
Value = step_pb2.DebugValue


def _execution() -> execution_pb2.Execution:
    state = execution_pb2.Execution.STATE_SUCCEEDED
    return execution_pb2.Execution(id="exe_1", state=state, result=execution_pb2.ExecutionResult(state=state))


def _listed(*items: Value, length: int = 0) -> Value:
    shape = step_pb2.DebugContainer.SHAPE_LIST
    return Value(container=step_pb2.DebugContainer(shape=shape, items=items), length=length)


def test_values_of_steps_are_objects_and_short_text() -> None:
    container = step_pb2.DebugContainer
    mapping = Value(
        container=container(shape=container.SHAPE_MAPPING, keys=[Value(text="k")], items=[Value(integer=1)])
    )
    one = Value(container=container(shape=container.SHAPE_TUPLE, items=[Value(none=True)]))
    instance = Value(
        type_name="Point",
        container=container(shape=container.SHAPE_INSTANCE, attributes=["x"], items=[Value(floating=1.5)]),
    )
    assert debug_natural(mapping) == {"k": 1}
    assert debug_natural(one) == (None,)
    assert [debug_text(value) for value in (mapping, one, instance)] == [
        "{'k': 1}",
        "(None,)",
        "Point(x=1.5)",
    ]
    cut = _listed(Value(integer=1), length=10)
    assert debug_text(cut) == "[1, … (10)]"
    assert debug_natural(cut).total_length == 10
    assert debug_text(Value(text="ab", length=5)) == "'ab'… (5)"


def test_batches_of_steps_and_of_columns_tell_the_same() -> None:
    change = step_pb2.Change
    steps = [
        step_pb2.Step(line=1, event=_LINE, frame=1, depth=1, thread=1),
        step_pb2.Step(
            line=2,
            event=_LINE,
            frame=1,
            depth=1,
            thread=1,
            changes=[change(name=1, value=Value(integer=1))],
            elapsed_nanos=5000,
        ),
        step_pb2.Step(
            line=3,
            event=_EXPRESSION,
            frame=1,
            depth=1,
            thread=1,
            changes=[change(name=2, value=_listed(Value(integer=1))), change(name=1, unbound=True)],
            result=_listed(Value(integer=1)),
            elapsed_nanos=5000,
        ),
    ]
    kinds = step_pb2.StepColumns
    columns = step_pb2.StepColumns(
        step_count=3,
        lines=[1, 2, 3],
        events=[_LINE, _LINE, _EXPRESSION],
        frames=[1],
        depths=[1],
        threads=[1],
        elapsed_nanos=[0, 5000],
        change_counts=[0, 1, 2],
        change_names=[1, 2, 1],
        change_kinds=[kinds.CHANGE_KIND_INTEGER, kinds.CHANGE_KIND_OTHER, kinds.CHANGE_KIND_UNBOUND],
        change_integers=[1],
        other_changes=[change(name=2, value=_listed(Value(integer=1)))],
        result_steps=[2],
        results=[_listed(Value(integer=1))],
    )
    heads: dict[str, Any] = {
        "first_step": 1,
        "names": ["a", "b", "<module>"],
        "codes": [step_pb2.CodeInfo(name=3, first_line=1)],
        "frames": [step_pb2.FrameInfo(code=1, depth=1, thread=1)],
    }
    told = list(BatchReader(_CODE).read(step_pb2.DebugBatch(steps=steps, **heads)))
    assert told == list(BatchReader(_CODE).read(step_pb2.DebugBatch(columns=columns, **heads)))
    assert [(step.step, step.line, step.source_line, step.function) for step in told] == [
        (1, 1, "a = 1", "<module>"),
        (2, 2, "b = [a]", "<module>"),
        (3, 3, "b", "<module>"),
    ]
    assert told[1].changes["a"].value == 1
    assert told[2].result == [1]
    assert not told[2].variables["a"].bound
    assert str(told[1]) == "   2 line       b = [a]  a=1"


class ScriptedServer(
    sandbox_service_pb2_grpc.SandboxServiceServicer, execution_service_pb2_grpc.ExecutionServiceServicer
):
    """Answers debugging as the contract says, without running anything."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.start = debug_session_pb2.StartDebugging()

    async def CreateSandbox(self, request: Any, context: Any) -> Any:
        return sandbox_service_pb2.CreateSandboxResponse(sandbox=sandbox_pb2.Sandbox(id="sbx_1"))

    async def Debug(self, request: Any, context: Any) -> AsyncIterator[Any]:
        step = debug_pb2.FullStep(
            step=1,
            line=2,
            source_line="b = [a]",
            event=_LINE,
            state=execution_pb2.Execution.STATE_RUNNING,
            stack=[debug_pb2.StackFrame(frame=1, function="<module>", line=2, depth=1)],
            variables=[debug_pb2.StepVariable(name="a", value=Value(integer=1), changed=True, text="1")],
        )
        events = [
            {"started": debug_pb2.DebugStarted(execution_id="exe_1", executable_lines=[1, 2, 3])},
            {"step": step},
            {"stdout": debug_pb2.DebugOutput(data=b"x")},
            {"finished": debug_pb2.DebugFinished(execution=_execution())},
        ]
        for sequence, event in enumerate(events, start=1):
            found = debug_pb2.DebugEvent(sequence=sequence, **event)
            yield execution_service_pb2.DebugResponse(event=found)

    async def DebugSession(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        answer = execution_service_pb2.DebugSessionResponse
        async for request in requests:
            command = request.WhichOneof("command")
            self.commands.append(command)
            number = request.command_id
            if command == "start":
                self.start = request.start
                verified = debug_session_pb2.BreakpointsSet.VerifiedBreakpoint(verified=True, line=2)
                yield answer(
                    command_id=number,
                    breakpoints_set=debug_session_pb2.BreakpointsSet(breakpoints=[verified]),
                )
                started = debug_pb2.DebugStarted(execution_id="exe_1", executable_lines=[1, 2])
                yield answer(command_id=number, started=started)
                yield answer(command_id=number, stopped=_stop(2, debug_session_pb2.Stopped.REASON_BREAKPOINT))
            elif command == "resume" and request.resume.mode == debug_session_pb2.Resume.MODE_STEP_BACK:
                refused = debug_session_pb2.CommandRefused(reason="NO_TRACE", message="nothing was recorded")
                yield answer(command_id=number, refused=refused)
            elif command == "resume" and request.resume.mode == debug_session_pb2.Resume.MODE_STEP_OVER:
                yield answer(command_id=number, stopped=_stop(3, debug_session_pb2.Stopped.REASON_STEP))
            elif command == "evaluate":
                value = sandbox_pb2.Variable(name=request.evaluate.expression, summary="42")
                yield answer(command_id=number, evaluated=debug_session_pb2.Evaluated(value=value))
            elif command == "query_trace":
                text = trace_pb2.TraceAnswer(text=trace_pb2.TraceTextAnswer(text="1 a=1"), left_out=["more"])
                yield answer(command_id=number, trace_answer=text)
            else:
                yield answer(command_id=number, finished=debug_pb2.DebugFinished(execution=_execution()))
                return


def _stop(line: int, reason: Any) -> debug_session_pb2.Stopped:
    return debug_session_pb2.Stopped(
        reason=reason,
        line=line,
        source=[debug_session_pb2.Stopped.SourceLine(line=line, text=f"line {line}")],
    )


@asynccontextmanager
async def _scripted() -> AsyncIterator[tuple[ScriptedServer, Sandbox]]:
    servicer, server = ScriptedServer(), grpc.aio.server()
    sandbox_service_pb2_grpc.add_SandboxServiceServicer_to_server(servicer, server)
    execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client.connect(f"127.0.0.1:{port}") as client:
        yield servicer, await client.create_sandbox()
    await server.stop(None)


async def test_run_is_told_step_by_step() -> None:
    async with _scripted() as (_, sandbox):
        events = [event async for event in sandbox.debug(_CODE)]
    (step,) = [event for event in events if isinstance(event, DebugStep)]
    assert (step.line, step.variables["a"].value, step.status) == (2, 1, "running")
    assert [event.text for event in events if isinstance(event, DebugOutput)] == ["x"]
    last = events[-1]
    assert isinstance(last, DebugFinished)
    assert last.result.completed


async def test_session_stops_steps_evaluates_and_ends() -> None:
    async with _scripted() as (server, sandbox):
        breakpoints = [2, Breakpoint(line=3, condition="a > 1", hit_count=2)]
        async with sandbox.debug_session(_CODE, breakpoints=breakpoints, exceptions="raised") as session:
            assert session.execution_id == "exe_1"
            assert [item.line for item in session.breakpoints] == [2]
            stop = await session.wait()
            assert isinstance(stop, Stopped)
            assert (stop.reason, stop.line) == ("breakpoint", 2)
            assert (await session.evaluate("a * 42")).summary == "42"
            stop = await session.step_over()
            assert isinstance(stop, Stopped)
            assert str(stop) == "step at line 3: line 3"
            with pytest.raises(CommandRefused, match="nothing was recorded") as caught:
                await session.step_back()
            assert caught.value.reason == "NO_TRACE"
            assert await session.trace.text() == "1 a=1\nmore"
            end = await session.resume()
            assert isinstance(end, DebugFinished)
            assert await session.wait() is end
            assert await session.resume() is end
    assert server.commands == ["start", "evaluate", "resume", "resume", "query_trace", "resume"]
    assert server.start.exception_breakpoint == debug_session_pb2.EXCEPTION_BREAKPOINT_RAISED
    assert [item.condition for item in server.start.breakpoints] == ["", "a > 1"]


async def test_leaving_a_session_ends_the_run() -> None:
    async with _scripted() as (server, sandbox):
        async with sandbox.debug_session(_CODE) as session:
            await session.wait()
    assert server.commands == ["start", "end"]
    assert session.finished is not None
