"""Processes killed from outside at random moments: the session tells truthfully what became of it."""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.support.leftovers import cgroup_roots
from tests.support.serving import Answer, Serving, children, serving
from tests.support.sessions import Sandbox, sandbox, wait_until, warm_up

_KILLS = int(os.environ.get("SANDBOXD_KILLS", "30"))
_COUNT = "try: x += 1\nexcept NameError: x = 1\nprint(x)"


@pytest.fixture(scope="module")
def warm_server() -> Iterator[Serving]:
    """A server of this file's own: it looks for processes, and other tests' sandboxes have some too."""
    with serving() as server:
        warm_up(server)
        yield server


class _Told:
    """What a session should hold by what its answers say."""

    def __init__(self, one: Sandbox) -> None:
        self._one = one
        self._after = {0: 0}
        self._now = 0

    def execute(self) -> Answer:
        answer = self._one.run(_COUNT, seconds=10)
        restored = self._after.get(answer.result.session.restored_from_execution_number, 0)
        if answer.state == "SUCCEEDED":
            # A loss between two executions is told by the next one, which has run on what was left.
            base = {"KEPT": self._now, "RESTORED": restored, "LOST": 0}[answer.session]
            assert int(answer.stdout) == base + 1, answer.result.session
            self._now = base + 1
        else:
            self._now = {"RESTORED": restored, "LOST": 0}[answer.session]
        self._after[answer.execution.number] = self._now
        return answer


def _processes(server: Serving) -> list[int]:
    """Processes of the families that hold more than one: a session and its kept states."""
    found = []
    for root in cgroup_roots(server.pid)[:1]:
        for group in root.glob("guest-*"):
            try:
                pids = [int(line) for line in (group / "cgroup.procs").read_text().split()]
            except OSError:
                continue
            found += pids if len(pids) > 1 else []
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(60 + 5 * _KILLS)
def test_guest_killed_at_random_moments_tells_the_truth(leak_free: Serving) -> None:
    if not cgroup_roots(leak_free.pid):
        pytest.skip("kernel: no usable control groups to find the guests by")
    chance = random.Random()
    outcomes: dict[str, int] = {}
    with sandbox(leak_free) as one:
        told = _Told(one)
        told.execute()
        for _ in range(_KILLS):
            one.settled()
            victims = chance.sample(_processes(leak_free), k=1)
            pause = chance.uniform(0, 0.03)
            killer = threading.Timer(pause, lambda pids=victims: [_kill(pid) for pid in pids])
            killer.start()
            for _ in range(chance.randrange(1, 4)):
                answer = told.execute()
                outcomes[answer.session] = outcomes.get(answer.session, 0) + 1
            killer.join()
            told.execute()
    assert "LOST" not in outcomes, outcomes


def test_session_and_its_latest_state_killed_together_go_back_further(leak_free: Serving) -> None:
    if not cgroup_roots(leak_free.pid):
        pytest.skip("kernel: no usable control groups to find the guests by")
    with sandbox(leak_free) as one:
        for number in range(3):
            one.run(f"x = {number}")
        one.settled()
        newest = sorted(_processes(leak_free), key=_start_time)
        for pid in (newest[0], newest[-1]):  # the session is the oldest process, its last copy the youngest
            _kill(pid)
        answer = one.run("print(x)")
        assert answer.session == "RESTORED"
        assert answer.result.session.restored_from_execution_number == 2
        assert one.value("x") == 1


def _serves_anew(server: Serving, old: int) -> bool:
    try:
        zygote = server.zygote_pid
    except StopIteration:  # none at all just now
        return False
    return zygote != old and len(children(zygote)) >= 2


def test_session_killed_while_idle_then_used_once_leaves_nothing(leak_free: Serving) -> None:
    if not cgroup_roots(leak_free.pid):
        pytest.skip("kernel: no usable control groups to find the guests by")
    with sandbox(leak_free) as one:
        one.run("x = 1")
        one.settled()
        session = min(_processes(leak_free), key=_start_time)
        _kill(session)
        wait_until(lambda: not os.path.exists(f"/proc/{session}"), what="it is reaped", seconds=5)
        assert one.running() == ""  # by then the server has seen it too
        answer = one.run("print(x)")
        assert (answer.stdout, answer.session) == ("1", "KEPT")


def _start_time(pid: int) -> tuple[int, int]:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19]), pid


def test_killed_zygote_loses_the_session_and_says_so(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        one.settled()
        zygote = leak_free.zygote_pid
        _kill(zygote)
        wait_until(lambda: _serves_anew(leak_free, zygote), seconds=60, what="there is another zygote")
        answer = one.run("print('x' in dir())")
        if answer.state == "SUCCEEDED":
            assert (answer.session, answer.stdout) == ("LOST", "False")
        else:
            assert (answer.state, answer.session) == ("ABORTED", "LOST")
        wait_until(lambda: one.run("1").state == "SUCCEEDED", seconds=20, what="it works again")
