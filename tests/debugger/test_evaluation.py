"""What an expression does that is evaluated at a stop: nothing to the program, unless that is asked for."""

from typing import Any

import pytest
from google.protobuf import duration_pb2
from sandboxd_api.v1 import checkpoint_pb2, sandbox_service_pb2
from sandboxd_api.v1 import debug_session_pb2 as wire

from tests.debugger.talk import Talk
from tests.support.leftovers import wait_until
from tests.support.serving import Serving, children, descendants, spec_of

PROGRAM = """\
items = [1, 2]
def total(values):
    found = sum(values)
    return found
print(total(items))
"""
CHANGING = "items.append(40) or sum(items)"


def stopped_talk(server: Serving, sandbox: str, code: str = PROGRAM, *, line: int = 4) -> Talk:
    talk = Talk(server, sandbox, code, breakpoints=[wire.Breakpoint(line=line)])
    talk.until("stopped")
    return talk


def evaluate(expression: str, *, milliseconds: int = 5000, **more: Any) -> wire.Evaluate:
    timeout = duration_pb2.Duration(nanos=milliseconds * 10**6) if milliseconds < 1000 else None
    return wire.Evaluate(expression=expression, timeout=timeout, **more)


def stdout_of(talk: Talk) -> str:
    return talk.end().execution.result.stdout.data.decode().strip()


def test_what_an_expression_changes_is_not_changed_in_the_program(server: Serving, sandbox: str) -> None:
    talk = stopped_talk(server, sandbox, line=3)
    assert talk.ask("evaluated", evaluate=evaluate(CHANGING)).value.summary == "43"
    assert talk.ask("evaluated", evaluate=evaluate("len(values)")).value.summary == "2"
    assert stdout_of(talk) == "3"


def test_with_side_effects_it_is_changed(server: Serving, sandbox: str) -> None:
    talk = stopped_talk(server, sandbox, line=3)
    answer = talk.ask("evaluated", evaluate=evaluate(CHANGING, allow_side_effects=True))
    assert answer.value.summary == "43"
    assert stdout_of(talk) == "43"


def test_an_expression_sees_the_frame_and_what_it_prints_is_told(server: Serving, sandbox: str) -> None:
    talk = stopped_talk(server, sandbox)
    answer = talk.ask("evaluated", evaluate=evaluate("print(found * 2) or found"))
    assert (answer.value.summary, answer.stdout) == ("3", b"6\n")
    assert talk.ask("evaluated", evaluate=evaluate("items", frame=1)).value.summary == "[1, 2]"
    assert talk.ask("evaluated", evaluate=evaluate("1 / 0")).failure.type_name == "ZeroDivisionError"
    assert talk.ask("evaluated", evaluate=evaluate("1 +")).failure.type_name == "SyntaxError"
    assert talk.ask("refused", evaluate=evaluate("1", frame=99)).reason == "NO_SUCH_FRAME"
    assert stdout_of(talk) == "3"


def test_an_expression_that_nothing_interrupts_is_killed_and_the_program_goes_on(
    server: Serving, sandbox: str
) -> None:
    talk = stopped_talk(server, sandbox)
    refused = talk.ask("refused", evaluate=evaluate("sum(range(10**13))", milliseconds=200))
    assert refused.reason == "EVALUATION_TIMED_OUT"
    polite = talk.ask("evaluated", evaluate=evaluate("[0 for _ in iter(int, 1)]", milliseconds=200))
    assert polite.failure.type_name == "TimeoutError"
    assert stdout_of(talk) == "3"


@pytest.mark.parametrize("expression", ["__import__('os')._exit(3)", "__import__('ctypes').string_at(0)"])
def test_an_expression_that_ends_its_process_leaves_the_program(
    server: Serving, sandbox: str, expression: str
) -> None:
    talk = stopped_talk(server, sandbox)
    assert talk.ask("refused", evaluate=evaluate(expression)).reason == "EVALUATION_DIED"
    assert talk.ask("evaluated", evaluate=evaluate("found")).value.summary == "3"
    assert stdout_of(talk) == "3"


def test_random_numbers_are_those_the_program_will_draw(server: Serving, sandbox: str) -> None:
    code = "import random\nrandom.seed(5)\nx = 1\nprint(random.random())\n"
    talk = stopped_talk(server, sandbox, code)
    drawn = talk.ask("evaluated", evaluate=evaluate("random.random()")).value.summary
    assert stdout_of(talk) == drawn


def test_a_program_with_threads_is_not_copied_and_says_so(server: Serving, sandbox: str) -> None:
    code = (
        "import threading\ngate = threading.Event()\nworker = threading.Thread(target=gate.wait)\n"
        "worker.start()\nx = 1\ngate.set()\nworker.join()\n"
    )
    talk = stopped_talk(server, sandbox, code, line=5)
    refused = talk.ask("refused", evaluate=evaluate("1 + 1"))
    assert refused.reason == "NO_COPY"
    assert "threads" in refused.message
    assert "allow side effects" in refused.message
    answer = talk.ask("evaluated", evaluate=evaluate("1 + 1", allow_side_effects=True))
    assert answer.value.summary == "2"
    talk.end()


def test_without_checkpoints_there_is_no_copy_either(server: Serving) -> None:
    spec = spec_of(debugging=True)
    spec.checkpoint_policy.mode = checkpoint_pb2.CheckpointPolicy.MODE_DISABLED
    request = sandbox_service_pb2.CreateSandboxRequest(spec=spec)
    sandbox = str(server.sandboxes.CreateSandbox(request, metadata=server.metadata).sandbox.id)
    talk = stopped_talk(server, sandbox)
    refused = talk.ask("refused", evaluate=evaluate("found"))
    assert refused.reason == "NO_COPY"
    assert "checkpoints are off" in refused.message
    talk.end()
    server.delete(sandbox)


def test_evaluations_leave_no_process(server: Serving, sandbox: str) -> None:
    talk = stopped_talk(server, sandbox)
    before = set(descendants(server.zygote_pid))
    for _ in range(5):
        talk.ask("evaluated", evaluate=evaluate("found"))
    talk.ask("refused", evaluate=evaluate("sum(range(10**13))", milliseconds=100))
    copies = lambda: {child for pid in before for child in children(pid)} - before  # noqa: E731
    wait_until(lambda: not copies(), seconds=5, what="the end of the copies")
    assert stdout_of(talk) == "3"


def test_a_reader_that_leaves_during_an_evaluation_leaves_a_sound_sandbox(
    server: Serving, sandbox: str
) -> None:
    talk = stopped_talk(server, sandbox)
    talk.send(evaluate=evaluate("sum(range(10**13))"))
    talk.call.cancel()
    assert server.run(sandbox, "print(6 * 7)", seconds=10).stdout == "42"
