"""Steps of a session, by line markers: what continue, over, into, out and run-to-line mean."""

import re
from typing import Any

import pytest
from sandboxd_api.v1 import debug_session_pb2 as wire

from sandboxd.channel import debug
from tests.debugger.harness import Traced, trace_program

PROGRAM = """\
def double(x):
    y = x * 2  # @in double
    return y  # @return double

def twice(x):
    a = double(x)  # @first call
    b = double(a)  # @second call
    return b  # @return twice

start = 1  # @start
result = twice(start)  # @call
items = []  # @items
for n in range(3):  # @loop
    items.append(n)  # @body
end = len(items)  # @end
"""
MARKS = {
    mark: number for number, line in enumerate(PROGRAM.splitlines(), 1) for mark in re.findall("@(.*)", line)
}


def go(mode: str, line: int = 0) -> debug.ResumeRun:
    return debug.ResumeRun(command_id=1, mode=mode, line=line)  # type: ignore[arg-type]


def evaluate(number: int, expression: str, **more: Any) -> debug.EvaluateInFrame:
    """In the program itself: there is no host here that orders copies."""
    return debug.EvaluateInFrame(command_id=number, expression=expression, allow_side_effects=True, **more)


def stops(traced: Traced) -> list[wire.Stopped]:
    return [wire.Stopped.FromString(stop.payload) for stop in traced.host.of(debug.DebugStopped)]


def lines(traced: Traced) -> list[str]:
    """The marker of each stop's line."""
    names = {number: mark for mark, number in MARKS.items()}
    return [names.get(stop.line, str(stop.line)) for stop in stops(traced)]


def session(*script: Any, source: str = PROGRAM, at: str | None = None, **settings: Any) -> Traced:
    """A session that stops at the marked line first."""
    if at is not None:
        settings["breakpoints"] = [debug.Breakpoint(line=MARKS[at])]
    return trace_program(source, *script, interactive=True, **settings)


def test_stop_at_entry_is_before_the_first_line() -> None:
    traced = session(stop_at_entry=True)
    assert [stop.line for stop in stops(traced)] == [1]
    assert stops(traced)[0].reason == wire.Stopped.REASON_ENTRY
    assert traced.namespace["end"] == 3


def test_over_runs_called_functions() -> None:
    assert lines(session(go("over"), go("over"), at="call")) == ["call", "items", "loop"]


def test_into_enters_called_functions() -> None:
    traced = session(go("into"), go("into"), go("into"), at="call")
    assert lines(traced) == ["call", "first call", "in double", "return double"]


def test_over_at_the_end_of_a_function_stops_in_the_caller() -> None:
    traced = session(go("over"), go("over"), at="return twice")
    assert lines(traced) == ["return twice", "items", "loop"]


def test_out_stops_at_the_return_with_its_value() -> None:
    traced = session(go("out"), at="first call")
    assert lines(traced) == ["first call", "return twice"]
    assert stops(traced)[1].result.integer == 4


def test_run_to_line_stops_there() -> None:
    traced = session(go("to_line", MARKS["end"]), at="start")
    assert lines(traced) == ["start", "end"]
    assert stops(traced)[1].reason == wire.Stopped.REASON_LINE_REACHED


def test_over_in_recursion_stays_in_its_frame() -> None:
    source = "def f(n):\n    if n:\n        f(n - 1)\n    return n\nf(3)\n"
    traced = session(
        go("over"), go("over"), source=source, breakpoints=[debug.Breakpoint(line=3, hit_count=1)]
    )
    depths = [len(stop.stack) for stop in stops(traced)[:1]]
    assert depths == [2]


@pytest.mark.parametrize(("condition", "count"), [("n == 1", 1), ("n > 5", 0), ("", 3)])
def test_a_condition_decides_where_a_breakpoint_stops(condition: str, count: int) -> None:
    traced = session(breakpoints=[debug.Breakpoint(line=MARKS["body"], condition=condition)])
    assert len(stops(traced)) == count


def test_a_failing_condition_stops_and_says_so() -> None:
    traced = session(breakpoints=[debug.Breakpoint(line=MARKS["start"], condition="nothing > 1")])
    assert "NameError" in stops(traced)[0].left_out[0]


def test_a_hit_count_lets_earlier_hits_pass() -> None:
    traced = session(breakpoints=[debug.Breakpoint(line=MARKS["body"], hit_count=3)])
    assert [variable.text for variable in stops(traced)[0].changed_variables if variable.name == "n"] == ["2"]


def test_a_log_message_is_filled_in_and_nothing_stops() -> None:
    traced = session(breakpoints=[debug.Breakpoint(line=MARKS["body"], log_message="n is {n}, {nope}!")])
    assert not stops(traced)
    assert [point.message for point in traced.host.of(debug.DebugLogpoint)][:1] == ["n is 0, <NameError>!"]


def test_a_breakpoint_on_a_line_without_code_moves_to_the_next() -> None:
    traced = session(breakpoints=[debug.Breakpoint(line=4)])
    assert stops(traced)[0].line == 5


def test_a_stop_tells_source_stack_and_what_changed() -> None:
    traced = session(go("over"), at="first call")
    first, second = stops(traced)
    assert [frame.function for frame in first.stack] == ["<module>", "twice"]
    assert first.source[0].line == 1
    assert {variable.name: variable.text for variable in second.changed_variables} == {"a": "2"}


RAISING = "def f(x):\n    return 1 // x\ntry:\n    f(0)\nexcept ZeroDivisionError:\n    ok = 1\nf(0)\n"


@pytest.mark.parametrize(("mode", "count"), [("never", 0), ("raised", 2), ("uncaught", 1)])
def test_exceptions_stop_as_asked(mode: str, count: int) -> None:
    found = stops(session(source=RAISING, exception_stops=mode))
    assert len(found) == count
    assert all(stop.exception.type_name == "ZeroDivisionError" for stop in found)


def test_evaluate_reads_the_frame_and_set_variable_changes_it() -> None:
    source = "def f(x):\n    y = x\n    return y + 1\nz = 1\nr = f(z)\n"
    traced = session(
        evaluate(1, "x * 10"),
        debug.SetVariable(command_id=2, name="y", expression="x + 40"),
        debug.SetVariable(command_id=3, name="nope", expression="1"),
        evaluate(4, "1 / 0"),
        evaluate(5, "z", frame=1),
        source=source,
        breakpoints=[debug.Breakpoint(line=3)],
    )
    done = {answer.command_id: answer for answer in traced.host.of(debug.CommandDone)}
    assert wire.Evaluated.FromString(done[1].payload).value.summary == "10"
    assert wire.VariableSet.FromString(done[2].payload).variable.summary == "41"
    assert wire.VariableSet.FromString(done[3].payload).failure.type_name == "NameError"
    assert wire.Evaluated.FromString(done[4].payload).failure.type_name == "ZeroDivisionError"
    assert wire.Evaluated.FromString(done[5].payload).value.summary == "1"
    assert traced.namespace["r"] == 42


def test_an_endless_evaluation_ends_at_its_deadline() -> None:
    traced = session(
        evaluate(1, "[0 for _ in iter(int, 1)]", timeout_ms=100),
        at="start",
    )
    failure = wire.Evaluated.FromString(traced.host.of(debug.CommandDone)[1].payload).failure
    assert failure.type_name == "TimeoutError"
    assert traced.namespace["end"] == 3


def test_the_past_is_viewed_step_by_step_and_not_changed() -> None:
    traced = session(
        go("back"),
        debug.EvaluateInFrame(command_id=2, expression="n + 100"),
        debug.SetVariable(command_id=3, name="n", expression="9"),
        go("reverse"),
        go("continue"),
        at="end",
    )
    placed, *answers = traced.host.of(debug.CommandDone)
    assert placed.kind == "breakpoints_set"
    assert wire.Evaluated.FromString(answers[1].payload).value.summary == "102"
    assert (answers[2].kind, answers[2].reason) == ("refused", "IN_THE_PAST")
    assert traced.namespace["end"] == 3


def test_breakpoints_can_be_replaced_at_a_stop() -> None:
    traced = session(
        debug.SetBreakpoints(command_id=1, breakpoints=[debug.Breakpoint(line=MARKS["end"])]),
        go("continue"),
        at="start",
    )
    assert lines(traced) == ["start", "end"]


def test_a_detached_run_goes_on_without_stops() -> None:
    traced = session(debug.DetachRun(command_id=1), breakpoints=[debug.Breakpoint(line=MARKS["body"])])
    assert len(stops(traced)) == 1
    assert traced.namespace["end"] == 3


QUIET = {"record_trace": False, "stream_steps": False}


def test_without_a_trace_breakpoints_stop_and_steps_work_from_there() -> None:
    traced = session(go("over"), go("out"), go("continue"), at="first call", **QUIET)
    assert lines(traced)[:3] == ["first call", "second call", "return twice"]
    assert [frame.function for frame in stops(traced)[0].stack] == ["<module>", "twice"]
    assert stops(traced)[0].stack[0].line == MARKS["call"]
    assert traced.namespace["end"] == 3


def test_without_a_trace_each_hit_of_a_breakpoint_stops() -> None:
    traced = session(at="body", **QUIET)
    assert [stop.line for stop in stops(traced)] == [MARKS["body"]] * 3
    condition = [debug.Breakpoint(line=MARKS["body"], condition="n == 1")]
    assert len(stops(session(breakpoints=condition, **QUIET))) == 1


@pytest.mark.parametrize(("mode", "count"), [("never", 0), ("raised", 2), ("uncaught", 1)])
def test_without_a_trace_exceptions_stop_as_asked(mode: str, count: int) -> None:
    found = stops(session(source=RAISING, exception_stops=mode, **QUIET))
    assert [stop.exception.type_name for stop in found] == ["ZeroDivisionError"] * count
    assert all([frame.function for frame in stop.stack] == ["<module>", "f"] for stop in found)
