"""User code that turns the tracer off is found out; the same code untouched is not blamed."""

import signal
import sys
import types
from typing import Any

import pytest
from sandboxd_api.v1 import debug_pb2

from sandboxd.guest.debug.frames import FrameState
from sandboxd.guest.debug.recorder import Recorder
from tests.debugger.harness import Traced, trace_program

ATTACKS = {"settrace": "import sys\nsys.settrace(None)\nx = 1\ny = 2\n"}
if sys.version_info >= (3, 12):
    ATTACKS = {
        "free the tool": (
            "import sys\ntry:\n    sys.monitoring.free_tool_id(0)\nexcept ValueError:\n    pass\nx = 1\n"
        ),
        "set no events": (
            "import sys\ntry:\n    sys.monitoring.set_events(0, 0)\nexcept ValueError:\n    pass\nx = 1\n"
        ),
        "local events": (
            "import sys\ndef f():\n    return 1\n"
            "try:\n    sys.monitoring.set_local_events(0, f.__code__, 0)\n"
            "except ValueError:\n    pass\nf()\n"
        ),
    }


def summary(traced: Traced) -> debug_pb2.DebugSummary:
    return debug_pb2.DebugSummary.FromString(traced.run.summary())


@pytest.mark.parametrize("attack", ATTACKS)
def test_turning_the_tracer_off_is_reported(attack: str) -> None:
    found = summary(trace_program(ATTACKS[attack]))
    assert found.tracing_interrupted
    assert any("tracer" in note for note in found.notes)


def test_an_ordinary_program_is_not_blamed() -> None:
    assert not summary(trace_program("import sys\nx = sys.version\n")).tracing_interrupted


def test_the_interpreter_is_left_as_it_was() -> None:
    before = sys.gettrace()
    trace_program("x = 1\n")
    assert sys.gettrace() is before
    if sys.version_info >= (3, 12):
        assert sys.monitoring.get_tool(0) is None
        sys.monitoring.use_tool_id(0, "other")
        sys.monitoring.free_tool_id(0)


def test_threads_are_numbered_and_their_lines_seen() -> None:
    source = (
        "import threading\ndone = []\ndef work(n):\n    v = n * 2\n    done.append(v)\n"
        "ts = [threading.Thread(target=work, args=(i,)) for i in range(3)]\n"
        "for t in ts:\n    t.start()\nfor t in ts:\n    t.join()\nr = sorted(done)\n"
    )
    traced = trace_program(source)
    assert traced.error is None
    rows = list(traced.run.trace.rows())
    assert len({row.thread for row in rows if row.line in (4, 5)}) == 3
    assert summary(traced).thread_count == 4


def test_deep_recursion_ends_in_the_programs_own_error() -> None:
    source = (
        "def f(n):\n    return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError as e:\n"
        "    seen = type(e).__name__\nafter = 1\n"
    )
    traced = trace_program(source)
    assert traced.error is None
    assert (traced.namespace["seen"], traced.namespace["after"]) == ("RecursionError", 1)


def test_an_exception_of_a_signal_handler_that_runs_inside_the_tracer_reaches_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    genuine = Recorder._changes
    waiting = [signal.SIGUSR2]

    def interrupted(self: Recorder, state: FrameState, frame: types.FrameType) -> Any:
        if state.statement == 6 and waiting:
            signal.raise_signal(waiting.pop())
        return genuine(self, state, frame)

    monkeypatch.setattr(Recorder, "_changes", interrupted)
    traced = trace_program(
        "import signal\n"
        "def ring(number, frame):\n"
        "    raise TimeoutError('late')\n"
        "before = signal.signal(signal.SIGUSR2, ring)\n"
        "try:\n"
        "    parts = [1]\n"
        "    parts = [2]\n"
        "except TimeoutError as error:\n"
        "    print(error)\n"
        "signal.signal(signal.SIGUSR2, before)\n"
    )

    assert traced.error is None
    assert traced.stdout == "late\n"
