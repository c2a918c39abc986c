"""What a failed execution tells of its frames, without any tracing."""

from typing import Any

import pytest
from sandboxd_api.v1 import execution_pb2
from sandboxd_api.v1 import execution_service_pb2 as pb

from tests.debugger.talk import Talk
from tests.support.serving import Serving

FAILING = """\
class Shy:
    def __init__(self):
        self.size = 3
    def __repr__(self):
        print('asked to show itself')
        while True:
            pass
def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)
def report(rows):
    shy = Shy()
    words = ['x' * 100_000] * 1000
    return [mean(row) for row in rows]
table = [[1, 2, 3], []]
report(table)
"""


def failed(server: Serving, sandbox: str, code: str, **options: Any) -> execution_pb2.ExecutionResult:
    request = pb.ExecuteRequest(
        sandbox_id=sandbox, code=code, options=execution_pb2.ExecutionOptions(**options)
    )
    result = server.executions.Execute(request, metadata=server.metadata, timeout=60).execution.result
    assert result.state == execution_pb2.Execution.STATE_FAILED
    return result


def variables(frame: execution_pb2.Frame) -> dict[str, str]:
    return {variable.name: variable.summary for variable in frame.variables}


def test_frames_of_a_failure_carry_their_variables(server: Serving, sandbox: str) -> None:
    frames = failed(server, sandbox, FAILING, capture_frames=True).failure.frames
    user = [frame for frame in frames if frame.in_user_code and "<listcomp>" not in frame.function]
    assert [(frame.function, frame.line) for frame in user] == [
        ("<module>", 18),
        ("report", 16),
        ("mean", 12),
    ]
    assert user[-1].source_line.strip() == "return total / len(values)"
    assert variables(user[-1]) == {"values": "[]", "total": "0"}
    assert variables(user[0])["table"] == "[[1, 2, 3], []]"


def test_showing_the_variables_of_a_failure_runs_no_user_code_and_is_bounded(
    server: Serving, sandbox: str
) -> None:
    result = failed(server, sandbox, FAILING, capture_frames=True)
    assert result.stdout.data == b""
    found = variables(next(frame for frame in result.failure.frames if frame.function == "report"))
    assert "Shy" in found["shy"]
    assert len(found["words"]) < 1000
    assert result.ByteSize() < 64 * 1024


@pytest.mark.parametrize(
    ("debugging", "asked", "captured"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_variables_are_captured_where_asked_or_where_debugging_is_on(
    server: Serving, debugging: bool, asked: bool | None, captured: bool
) -> None:
    made = server.create(debugging=debugging)
    result = failed(server, made, "x = 41\n1 / 0\n", capture_frames=asked)
    assert [variables(frame).get("x") for frame in result.failure.frames] == ["41" if captured else None]
    server.delete(made)


def test_a_failure_in_a_debug_session_has_its_frames_too(server: Serving, sandbox: str) -> None:
    talk = Talk(server, sandbox, FAILING)
    stop = talk.until("stopped")
    assert stop.exception.type_name == "ZeroDivisionError"
    failure = talk.end().execution.result.failure
    innermost = failure.frames[-1]
    assert (innermost.function, variables(innermost)["total"]) == ("mean", "0")
