"""Questions about a recorded trace."""

from sandboxd_api.v1 import debug_pb2, step_pb2, trace_pb2

from sandboxd.channel import debug
from tests.debugger.harness import Traced, trace_program

PROGRAM = """\
def scale(v, k):
    out = v * k
    return out
total = 0
for i in range(10):
    total = total + scale(i, 2)
if total > 1000:
    never = 1
bad = [1, 0]
scale(bad[5], 1)
"""


def ask(traced: Traced, question: debug.TraceQuestion, **limits: int) -> trace_pb2.TraceAnswer:
    done = traced.ask(question, **limits)
    assert done.kind == "trace_answer", done
    return trace_pb2.TraceAnswer.FromString(done.payload)


def test_the_state_at_each_step_is_what_the_full_stream_said() -> None:
    traced = trace_program(PROGRAM, detail="full")
    steps = [
        debug_pb2.FullStep.FromString(payload)
        for message in traced.host.of(debug.DebugSteps)
        for payload in message.payloads
    ]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    for wanted in steps[:: max(len(steps) // 15, 1)]:
        state = ask(traced, debug.StateAtStep(step=wanted.step)).state.step
        shown = {(v.name, v.is_global): v.text for v in state.variables}
        assert shown == {(v.name, v.is_global): v.text for v in wanted.variables}
        assert [(f.function, f.line) for f in state.stack] == [(f.function, f.line) for f in wanted.stack]


def test_when_a_variable_changed_names_line_and_values() -> None:
    changes = ask(trace_program(PROGRAM), debug.WhenChanged(name="total")).changes
    assert changes.total_count == 10  # the first pass leaves the same 0
    assert (changes.changes[1].line, changes.changes[1].text) == (6, "0 -> 2")


def test_the_last_write_before_a_step_is_found() -> None:
    changes = ask(trace_program(PROGRAM), debug.LastWrite(name="total")).changes
    assert changes.changes[0].text == "72 -> 90"


def test_the_first_step_where_an_expression_holds_is_found() -> None:
    traced = trace_program(PROGRAM)
    match = ask(traced, debug.FirstWhere(expression="total > 20 and i == 5")).match
    assert match.found
    values = {variable.name: variable.text for variable in match.step.variables}
    assert (values["total"], values["i"]) == ("30", "5")
    assert not ask(traced, debug.FirstWhere(expression="total == 7")).match.found
    assert traced.ask(debug.FirstWhere(expression="__import__('os')")).reason == "BAD_EXPRESSION"
    assert traced.ask(debug.FirstWhere(expression="missing == 1")).reason == "NOT_IN_TRACE"


def test_calls_carry_arguments_and_results() -> None:
    calls = ask(trace_program(PROGRAM), debug.Calls(function="scale"), max_entries=3)
    assert calls.calls.total_count == 10
    assert len(calls.calls.calls) == 3
    assert "7 more calls" in calls.left_out[0]
    second = calls.calls.calls[1]
    assert [(v.name, v.text) for v in second.arguments] == [("v", "1"), ("k", "2")]
    assert (second.result.integer, second.caller_line) == (2, 6)


def test_lines_never_reached_are_told() -> None:
    lines = ask(trace_program(PROGRAM), debug.LinesNotReached()).lines
    assert [(item.first, item.last) for item in lines.not_reached] == [(8, 8)]


def test_a_loop_is_summed_up_by_its_ends() -> None:
    loop = ask(trace_program(PROGRAM), debug.LoopPasses(line=6, pass_count=2)).loop
    assert (loop.first_line, loop.last_line, loop.pass_count) == (5, 6, 10)
    assert [item.number for item in loop.first_passes] == [1, 2]
    assert [item.number for item in loop.last_passes] == [9, 10]
    assert {r.name: (r.minimum, r.maximum) for r in loop.number_ranges}["i"] == (0, 9)


def test_the_text_form_is_short() -> None:
    answer = ask(trace_program(PROGRAM), debug.TraceText(), max_characters=100_000)
    assert len(answer.text.text) / answer.text.step_count <= 12


def test_the_failure_report_names_line_frames_and_last_changes() -> None:
    text = ask(trace_program(PROGRAM), debug.FailureText()).text.text
    assert text.startswith("IndexError(list index out of range) at step")
    assert "scale(bad[5], 1)" in text
    assert "bad=[1, 0] by line 9" in text
    assert len(text) <= 1600


def test_a_past_step_of_many_is_found_from_a_keyframe() -> None:
    traced = trace_program("x = 0\nfor i in range(30000):\n    x = x + i\n")
    state = ask(traced, debug.StateAtStep(step=40_001)).state.step
    assert {v.name: v.text for v in state.variables}["i"] == "19999"


def test_a_full_trace_drops_its_oldest_steps_and_says_so() -> None:
    traced = trace_program("for i in range(30000):\n    x = i\n", trace_bytes=100_000)
    assert traced.run.trace.dropped_steps > 1000
    assert traced.ask(debug.StateAtStep(step=5)).reason == "NOT_IN_TRACE"
    assert "no longer kept" in ask(traced, debug.TraceText(from_step=59_000)).left_out[-1]


def test_batches_fold_to_the_recorded_state_for_any_reader() -> None:
    traced = trace_program(PROGRAM)
    batches = [
        step_pb2.DebugBatch.FromString(payload)
        for message in traced.host.of(debug.DebugSteps)
        for payload in message.payloads
    ]
    assert sum(batch.columns.step_count for batch in batches) == traced.run.trace.step_count
    assert batches[0].first_step == 1
    names = [name for batch in batches for name in batch.names]
    assert {"total", "scale", "v", "k"} <= set(names)


def test_filters_leave_out_and_count() -> None:
    only = trace_program(PROGRAM, functions=["scale"])
    assert {row.depth for row in only.run.trace.rows()} == {2}
    assert only.run.recorder.filtered_count > 0
    watched = trace_program(PROGRAM, names=["total"])
    assert watched.run.trace.step_count == 10
    few = trace_program(PROGRAM, max_steps=7)
    assert few.run.trace.step_count == 7
    assert debug_pb2.DebugSummary.FromString(few.run.summary()).notes[0].startswith("steps after 7")
    assert trace_program(PROGRAM, every_nth=10).run.trace.step_count < 10
    assert {row.line for row in trace_program(PROGRAM, line_ranges=[(2, 3)]).run.trace.rows()} == {2, 3}
