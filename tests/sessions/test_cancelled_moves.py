"""Calls that are cancelled while the session moves to another process: nothing is left over, nothing lost."""

import time
from typing import Any

from sandboxd_api.v1 import execution_service_pb2 as execution_service
from sandboxd_api.v1 import sandbox_service_pb2 as sandbox_service

from tests.support.serving import Answer, Serving
from tests.support.sessions import sandbox

_DELAYS = [number / 2500 for number in range(30)]
"""Seconds from a call to its cancellation: a move takes some 3 to 10 ms."""
_DIE_SOON = (
    "import signal; signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.setitimer(signal.ITIMER_REAL, 0.03)"
)
_DEAD_SECONDS = 0.08


def _cancel(call: Any, *, after_seconds: float) -> None:
    time.sleep(after_seconds)
    call.cancel()


def test_rewinds_that_are_cancelled_leave_no_process(leak_free: Serving) -> None:
    # A copy that was to become the session used to stay, even after DeleteSandbox.
    with sandbox(leak_free) as one:
        for number in range(3):
            one.run(f"x = {number}")
        kept = one.checkpoints()
        for count, seconds in enumerate(_DELAYS):
            target = kept[count % 2].id
            request = sandbox_service.RewindSandboxRequest(sandbox_id=one.id, checkpoint_id=target)
            call = leak_free.sandboxes.RewindSandbox.future(request, metadata=leak_free.metadata)
            _cancel(call, after_seconds=seconds)
        assert one.value("x") in (1, 2)


def test_executions_cancelled_while_the_session_is_restored_leave_no_process(leak_free: Serving) -> None:
    # The kept state that was to become the session used to stay, even after DeleteSandbox.
    with sandbox(leak_free) as one:
        one.run("x = 1")
        for seconds in _DELAYS:
            one.run(_DIE_SOON)
            time.sleep(_DEAD_SECONDS)
            request = execution_service.ExecuteRequest(sandbox_id=one.id, code="x = 1")
            call = leak_free.executions.Execute.future(request, metadata=leak_free.metadata)
            _cancel(call, after_seconds=seconds)
        assert one.value("x") == 1


def test_loss_found_by_a_cancelled_execution_is_told_once(server: Serving) -> None:
    # It used to be told by nobody when the call was cancelled before its code ran.
    for seconds in _DELAYS[:15]:
        with sandbox(server, checkpoints=False) as one:
            one.run(_DIE_SOON)
            time.sleep(_DEAD_SECONDS)
            request = execution_service.ExecuteRequest(sandbox_id=one.id, code="x = 1")
            call = server.executions.Execute.future(request, metadata=server.metadata)
            _cancel(call, after_seconds=seconds)
            one.run("y = 1")
            assert _sessions(server, one.id).count("LOST") == 1


def _sessions(server: Serving, sandbox_id: str) -> list[str]:
    """What every execution of a sandbox told of its session."""
    request = execution_service.ListExecutionsRequest(
        sandbox_id=sandbox_id, view=execution_service.EXECUTION_VIEW_FULL
    )
    listed = server.executions.ListExecutions(request, metadata=server.metadata)
    return [Answer(execution).session for execution in listed.executions]
