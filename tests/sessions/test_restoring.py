"""A session that its code ends, by whatever way, goes on from the state before that code."""

import time

import grpc
import pytest

from tests.support.control import unconfined_status
from tests.support.serving import Serving
from tests.support.sessions import CRASHES, sandbox, skip_reason

_RICH_STATE = """
import random, math
from dataclasses import dataclass
import numpy as np
@dataclass
class Point:
    x: int
def double(value):
    return value * 2 + offset
offset = 1
points = [Point(1), Point(2)]
array = np.arange(1000)
random.seed(7); np.random.seed(7)
with open('data.txt', 'w') as out: out.write('before')
handle = open('data.txt')
handle.read(3)
"""
_SPOIL = """
offset = 100
points.clear()
array[:] = 0
del double
random.seed(1); np.random.seed(1)
open('data.txt', 'w').write('spoilt')
open('new.txt', 'w').close()
handle.read()
"""
_READ = "[double(4), [p.x for p in points], int(array.sum()), open('data.txt').read()]"
_EXPECTED = [9, [1, 2], 499500, "before"]


@pytest.mark.parametrize("how", CRASHES)
def test_crash_restores_the_state_before_it(leak_free: Serving, how: str) -> None:
    with sandbox(leak_free) as one:
        first = one.execute(_RICH_STATE)
        answer = one.run(_SPOIL + CRASHES[how], seconds=5)
        assert (answer.state in ("FAILED", "TIMED_OUT"), answer.session) == (True, "RESTORED")
        assert answer.result.session.restored_from_execution_id == first.id
        assert answer.result.session.restored_from_execution_number == 1
        assert answer.result.session.reason
        assert one.value(_READ) == _EXPECTED


@pytest.mark.parametrize("how", ["segfault", "exit", "abort"])
def test_the_same_code_ends_an_ordinary_process(how: str) -> None:
    assert unconfined_status("x = 1\n" + CRASHES[how]) != 0


def test_random_state_files_and_positions_are_restored(leak_free: Serving) -> None:
    draws = (
        "[random.random(), float(np.random.random()), handle.read(), sorted(map(str, Path('.').iterdir()))]"
    )
    with sandbox(leak_free) as one:
        one.run(_RICH_STATE + "from pathlib import Path")
        expected = one.value(draws)
        one.rewind(before_execution_number=2)
        assert one.run(_SPOIL + CRASHES["segfault"]).session == "RESTORED"
        assert one.value(draws) == expected
        assert expected[2:] == ["ore", ["data.txt"]]


def test_files_keep_mode_time_and_links(leak_free: Serving) -> None:
    make = """
import os
os.makedirs('a/b'); open('a/b/f', 'w').write('x'); os.symlink('a/b/f', 'link')
open('secret', 'w').write('s'); os.utime('secret', (1, 1)); os.chmod('secret', 0)
os.chdir('a')
"""
    read = """[os.getcwd(), os.readlink('../link'), os.stat('../secret').st_mode & 0o777,
os.stat('../secret').st_mtime, open('b/f').read(), sorted(os.listdir('..'))]"""
    with sandbox(leak_free) as one:
        one.run(make)
        before = one.value(read)
        spoil = "os.chdir('/'); import shutil; shutil.rmtree('/workspace/a'); os.remove('/workspace/link')\n"
        assert one.run(spoil + CRASHES["exit"]).session == "RESTORED"
        assert one.value(read) == before
        assert before == ["/workspace/a", "a/b/f", 0, 1.0, "x", ["a", "link", "secret"]]


def test_timeout_that_ignores_interrupts_restores(leak_free: Serving) -> None:
    code = "import signal\nx = 2\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    with sandbox(leak_free) as one:
        one.run("x = 1")
        answer = one.run(code, seconds=0.3)
        assert (answer.state, answer.session) == ("TIMED_OUT", "RESTORED")
        assert answer.limit == "EXECUTION_TIMEOUT"
        assert one.value("x") == 1


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import asyncio; await asyncio.sleep(60)",
        "import re; re.match('(a+)+$', 'a' * 40 + 'b')",
        "total = 0\nfor number in range(10**12): total += number",
    ],
)
def test_soft_interrupt_keeps_the_session(leak_free: Serving, code: str) -> None:
    with sandbox(leak_free) as one:
        answer = one.run("x = 5\n" + code, seconds=0.3)
        assert (answer.state, answer.session) == ("TIMED_OUT", "KEPT")
        assert one.value("x") == 5


def test_failure_without_rollback_keeps_what_it_did(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        assert one.run("x = 2; 1 / 0").session == "KEPT"
        assert one.value("x") == 2


def test_failure_with_rollback_undoes_it(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1; open('f', 'w').write('1')")
        answer = one.run("x = 2; open('f', 'w').write('2'); 1 / 0", rollback=True)
        assert (answer.state, answer.failure, answer.session) == ("FAILED", "EXCEPTION", "RESTORED")
        assert one.value("[x, open('f').read()]") == [1, "1"]


def test_success_with_rollback_keeps_it(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        assert one.run("x = 2", rollback=True).session == "KEPT"
        assert one.value("x") == 2


def test_crash_of_the_first_execution_restores_the_fresh_session(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        answer = one.run("x = 1\n" + CRASHES["exit"])
        assert answer.session == "RESTORED"
        assert answer.result.session.restored_from_execution_number == 0
        assert one.value("'x' in dir()") is False


def test_live_threads_are_said_beforehand_and_a_crash_loses_the_session(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("import threading; stop = threading.Event(); threading.Thread(target=stop.wait).start()")
        state = one.describe().checkpoint
        assert "threads" in state.message
        answer = one.run("x = 1")
        assert (answer.session, skip_reason(answer)) == ("KEPT", "LIVE_THREADS")
        with pytest.raises(grpc.RpcError, match="threads") as refused:
            one.run("x = 2", rollback=True)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert one.value("x") == 1
        lost = one.run(CRASHES["segfault"])
        assert (lost.session, skip_reason(lost)) == ("LOST", "LIVE_THREADS")
        assert lost.result.session.reason
        assert one.value("'x' in dir()") is False


def test_threads_that_have_ended_are_no_obstacle(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("import threading\nt = threading.Thread(target=int); t.start(); t.join()")
        one.run("import asyncio\nx = await asyncio.to_thread(int, '7')")
        assert one.run(CRASHES["exit"]).session == "RESTORED"
        assert one.value("x") == 7


def test_switched_off_checkpoints_lose_the_session_and_say_so(leak_free: Serving) -> None:
    with sandbox(leak_free, checkpoints=False) as one:
        answer = one.run("x = 1")
        assert skip_reason(answer) == "DISABLED"
        assert one.checkpoints() == []
        assert one.run(CRASHES["exit"]).session == "LOST"
        assert one.value("'x' in dir()") is False


def test_heap_above_the_kept_memory_is_said_beforehand(leak_free: Serving) -> None:
    with sandbox(leak_free, memory_bytes=32 << 20) as one:
        one.run("x = 1")
        one.run("big = bytearray(b'x') * (64 << 20)")
        answer = one.run("y = 1")
        assert skip_reason(answer) == "TOO_LARGE"
        one.run("del big")
        assert skip_reason(one.run("z = 1")) == "UNSPECIFIED"


def test_many_crashes_in_a_row_all_restore(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 41")
        for round_number in range(12):
            assert one.run("x = 0\n" + CRASHES["segfault"]).session == "RESTORED"
            assert one.run("x += 1").session == "KEPT"
            assert one.value("x") == 42 + round_number


def test_loss_before_an_execution_that_crashes_too_is_told_by_the_next(leak_free: Serving) -> None:
    # The crash used to be all that was told: the session seemed to be the one of before.
    die_with_a_thread = (
        "import os, threading, time\nx = 1\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), os._exit(1))).start()"
    )
    with sandbox(leak_free) as one:
        one.run(die_with_a_thread)
        time.sleep(0.15)
        told = [one.run(CRASHES["exit"]).session, one.run("y = 1").session, one.run("y = 2").session]
        assert told == ["RESTORED", "LOST", "KEPT"]
