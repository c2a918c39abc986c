"""Debugging through the client, against a real server."""

import pytest
from sandboxd_client import (
    Breakpoint,
    Client,
    CommandRefused,
    DebugFinished,
    DebugStep,
    Sandbox,
    SandboxService,
    Stopped,
    sync,
)
from sandboxd_client.debugging import Detail

from tests.support.server_process import Server

_CODE = """\
def double(n):
    twice = n * 2  # @inside
    return twice

total = 0
for item in [1, 2, 3]:  # @loop
    total += double(item)  # @body
total
"""


def _line(marker: str) -> int:
    return next(number for number, text in enumerate(_CODE.splitlines(), 1) if f"@{marker}" in text)


async def test_wish_lists_debug_loop_prints_every_step(server: Server) -> None:
    debug_code = """
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
    async with await SandboxService.connect(server.tcp, token=server.token) as service:
        sandbox_id = await service.create_agent_sandbox(user_id=1, config={"enable_debugging": True})
        printed, steps = [], []
        async for debug_step in service.debug_code(sandbox_id, debug_code):
            printed.append(f"Line {debug_step['line_number']}: {debug_step['line_code']}")
            printed.append(f"Result: {debug_step['result'].status}")
            printed.append(f"Variables: {debug_step['state']['variables']}")
            steps.append(debug_step)
        await service.cleanup_sandbox(sandbox_id)
    assert printed[0] == "Line 2: data = [1, 2, 3, 4, 5]"
    assert printed[1] == "Result: running"
    assert "Line 7:     processed = item * 2" in printed
    assert steps[-1]["event"] == "finished"
    assert steps[-1]["result"].status == "completed"
    assert steps[-1]["result"].result == [2, 4, 6, 8, 10]
    assert len(steps[-1]["result"].debug_info.log) == 7
    bodies = [step for step in steps if step["line_number"] == 8]
    assert [step["state"]["variables"]["processed"] for step in bodies] == [2, 4, 6, 8, 10]


@pytest.mark.parametrize("detail", ["full", "delta"])
async def test_steps_tell_lines_changes_calls_and_returns(sandbox: Sandbox, detail: Detail) -> None:
    events = [event async for event in sandbox.debug(_CODE, {"detail": detail})]
    steps = [event for event in events if isinstance(event, DebugStep)]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    body = [step for step in steps if step.line == _line("body") and step.event == "line"]
    assert [step.changes["item"].value for step in body] == [1, 2, 3]
    inside = [step for step in steps if step.line == _line("inside") and step.event == "line"]
    assert {step.function for step in inside} == {"double"}
    returned = [step.result for step in steps if step.event == "return" and step.function == "double"]
    assert returned == [2, 4, 6]
    last = events[-1]
    assert isinstance(last, DebugFinished)
    assert last.result.result == 12
    assert last.summary.step_count == len(steps)


async def test_filters_leave_out_what_is_not_asked_for(sandbox: Sandbox) -> None:
    events = [event async for event in sandbox.debug(_CODE, {"functions": ["double"]})]
    steps = [event for event in events if isinstance(event, DebugStep)]
    assert {step.function for step in steps} == {"double"}


async def test_session_stops_where_a_condition_holds_and_looks_around(sandbox: Sandbox) -> None:
    breakpoint_ = Breakpoint(line=_line("inside"), condition="n == 2")
    async with sandbox.debug_session(_CODE, breakpoints=[breakpoint_]) as session:
        stop = await session.wait()
        assert isinstance(stop, Stopped)
        assert (stop.reason, stop.line, stop.function) == ("breakpoint", _line("inside"), "double")
        assert stop.changed["n"].value == 2
        assert [frame.function for frame in stop.stack] == ["<module>", "double"]
        assert (await session.evaluate("n * 100")).summary == "200"
        stop = await session.step_over()
        assert isinstance(stop, Stopped)
        assert stop.changed["twice"].value == 4
        await session.set_variable("twice", "1000")
        end = await session.resume()
    assert isinstance(end, DebugFinished)
    assert end.result.result == 2 + 1000 + 6


async def test_command_that_fails_leaves_the_session_as_it_is(sandbox: Sandbox) -> None:
    async with sandbox.debug_session(_CODE, stop_at_entry=True) as session:
        stop = await session.wait()
        assert isinstance(stop, Stopped)
        assert stop.reason == "entry"
        with pytest.raises(CommandRefused, match="NameError"):
            await session.evaluate("no_such_name")
        assert isinstance(await session.step_over(), Stopped)


async def test_exception_stops_the_session(sandbox: Sandbox) -> None:
    async with sandbox.debug_session("x = 1\nx / 0") as session:
        stop = await session.wait()
        assert isinstance(stop, Stopped)
        assert stop.reason == "exception"
        assert stop.exception is not None
        assert stop.exception.type == "ZeroDivisionError"
        end = await session.resume()
    assert isinstance(end, DebugFinished)
    assert end.result.status == "failed"


async def test_past_is_asked_about_in_a_session(sandbox: Sandbox) -> None:
    async with sandbox.debug_session(_CODE, breakpoints=[len(_CODE.splitlines())]) as session:
        await session.wait()
        changes = (await session.trace.when_changed("total")).changes
        assert [change.after for change in changes] == [0, 2, 6, 12]
        back = await session.step_back()
        assert isinstance(back, Stopped)
        assert back.in_the_past


async def test_trace_answers_after_the_run(client: Client, sandbox: Sandbox) -> None:
    events = [event async for event in sandbox.debug(_CODE, {"detail": "summary"})]
    last = events[-1]
    assert isinstance(last, DebugFinished)
    trace = client.trace(last.result.execution_id)
    calls = await trace.calls("double")
    assert [(call.arguments["n"].value, call.result) for call in calls.calls] == [(1, 2), (2, 4), (3, 6)]
    match = await trace.first_where("total > 5")
    assert match.step is not None
    assert match.step.variables["total"].value == 6
    write = await trace.last_write("total")
    assert write is not None
    assert (write.before, write.after) == (6, 12)
    state = await trace.state_at(match.step.step)
    assert state.step.step == match.step.step
    assert (await trace.lines_not_reached()).not_reached == ()
    loop = await trace.loop(_line("loop"))
    assert loop.pass_count == 3
    assert "total=12" in await trace.text(max_characters=5000)


async def test_failure_report_names_line_and_last_changes(client: Client, sandbox: Sandbox) -> None:
    code = "rate = 5\nrate = rate - 5\nprice = 10 / rate"
    events = [event async for event in sandbox.debug(code, {"detail": "summary"})]
    last = events[-1]
    assert isinstance(last, DebugFinished)
    report = await client.trace(last.result.execution_id).failure_report()
    assert "ZeroDivisionError" in report
    assert "rate" in report


def test_blocking_session_steps_and_asks(server: Server) -> None:
    with sync.Client.connect(server.tcp, token=server.token) as client, client.create_sandbox() as sandbox:
        steps = [event for event in sandbox.debug("a = 1\na") if isinstance(event, DebugStep)]
        assert steps[0].source_line == "a = 1"
        with sandbox.debug_session("a = 1\nb = a\nb", breakpoints=[2]) as session:
            stop = session.wait()
            assert isinstance(stop, Stopped)
            assert session.evaluate("a").summary == "1"
            assert len(session.trace.when_changed("a").changes) == 1
            assert isinstance(session.resume(), DebugFinished)


async def test_ended_session_is_no_sign_of_tampering(sandbox: Sandbox) -> None:
    async with sandbox.debug_session(_CODE, breakpoints=[_line("inside"), 99]) as session:
        await session.wait()
        assert [found.verified for found in session.breakpoints] == [True, False]
        finished = await session.end()
    assert isinstance(finished, DebugFinished)
    assert not finished.summary.tracing_interrupted
    assert finished.summary.notes == ()
