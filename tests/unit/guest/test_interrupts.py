"""SIGINT wherever it may land: the execution ends, the session goes on."""

import os
import signal

import pytest

from sandboxd.channel import values
from sandboxd.channel.messages import Call, CallReply, LogEntry
from tests.unit.guest.nursery import Guest, Nursery

BUSY = {
    "loop": "while True:\n    pass",
    "sleep": "import time\ntime.sleep(1000)",
    "await": "import asyncio\nawait asyncio.sleep(1000)",
    "asyncio.run": "import asyncio\nasync def f():\n    while True:\n        pass\nasyncio.run(f())",
    "busy await": "import asyncio\nwhile True:\n    await asyncio.sleep(0)",
    "lock": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    "event": "import threading\nthreading.Event().wait()",
    "regular expression": "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')",
    "power": "9 ** 9 ** 9",
    "generator": "def g():\n    while True:\n        yield 1\nsum(g())",
    "flood of debug entries": "while True:\n    debug('x')",
    "flood of inspected variables": "while True:\n    inspect_var('x', [1, 2, 3])",
}
STARTED = "debug('started')\n"


@pytest.mark.parametrize("source", BUSY.values(), ids=BUSY)
def test_interrupt_ends_the_execution_and_the_session_lives_on(guest: Guest, source: str) -> None:
    guest.run("kept = 'kept'")
    guest.start(STARTED + source)
    guest.wait_for(LogEntry)
    finished = guest.interrupt_like_the_host()
    assert finished.failure is not None
    assert finished.failure.kind == "interrupted"
    assert guest.run("kept").value == values.TextValue(text="kept", total_length=4)


def test_interrupt_while_waiting_in_the_loop_shows_where_the_program_waited(guest: Guest) -> None:
    guest.start(
        "import asyncio\nasync def slow():\n    await asyncio.sleep(1000)\n"
        "asyncio.get_running_loop().call_soon(debug, 'waiting')\nawait slow()"
    )
    guest.wait_for(LogEntry)
    failure = guest.interrupt_like_the_host().failure
    assert failure is not None
    assert [(frame.function, frame.line) for frame in failure.frames if frame.in_user_code] == [
        ("<module>", 5),
        ("slow", 3),
    ]
    assert "await asyncio.sleep(1000)" in failure.traceback


@pytest.mark.parametrize(
    "source",
    [
        "class Hostile(Exception):\n    def __str__(self):\n        debug('started')\n"
        "        while True: pass\nraise Hostile",
        "class Hostile(Exception):\n    @property\n    def __notes__(self):\n        debug('started')\n"
        "        while True: pass\nraise Hostile('said')",
        "class Hostile:\n    def __repr__(self):\n        debug('started')\n"
        "        while True: pass\nHostile()",
        "class Hostile:\n    def __del__(self):\n        debug('started')\n"
        "        while True: pass\n__result__ = 1\nh = [Hostile()]\nh.clear()",
        "import asyncio\nasync def stay():\n    try:\n        await asyncio.sleep(1000)\n    finally:\n"
        "        debug('started')\n        while True: pass\nasyncio.create_task(stay())\n"
        "await asyncio.sleep(0)",
    ],
    ids=["exception text", "exception notes", "repr of the result", "finaliser", "cancelled task"],
)
def test_interrupt_in_hostile_code_that_we_call_costs_only_its_text(guest: Guest, source: str) -> None:
    guest.start(source)
    guest.wait_for(LogEntry)
    guest.interrupt_like_the_host()
    assert guest.run("1 + 1").value == values.IntValue(value=2)


def test_exception_with_a_text_that_never_ends_keeps_its_type_and_place(guest: Guest) -> None:
    guest.start(
        "class Hostile(Exception):\n    def __str__(self):\n        debug('started')\n"
        "        while True: pass\nraise Hostile"
    )
    guest.wait_for(LogEntry)
    failure = guest.interrupt_like_the_host().failure
    assert failure is not None
    assert (failure.type_name, failure.message) == ("Hostile", "<message could not be read>")
    assert "line 5, in <module>" in failure.traceback


def test_interrupts_between_executions_are_ignored(guest: Guest) -> None:
    for number in range(100):
        guest.interrupt()
        assert guest.run(f"{number}").failure is None or number == 0
        guest.interrupt()
    assert guest.run("1 + 1").value == values.IntValue(value=2)


def test_interrupts_at_random_moments_never_end_the_session(guest: Guest) -> None:
    """Nothing is in step here on purpose: signals rain on parsing, running, describing and sending."""
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                os.kill(guest.pid, signal.SIGINT)
                for _ in range(2000):
                    pass
        finally:
            os._exit(0)
    try:
        code = "table = {str(n): [n] * 3 for n in range(200)}\ndebug('x')\ntable"
        kinds = {None if (failure := guest.run(code).failure) is None else failure.kind for _ in range(300)}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert kinds <= {None, "interrupted"}
    assert guest.run("'alive'").value == values.TextValue(text="alive", total_length=5)


def test_handler_replaced_by_user_code_is_back_for_the_next_execution(free_guest: Guest) -> None:
    free_guest.run(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})"
    )
    free_guest.start(STARTED + "while True: pass")
    free_guest.wait_for(LogEntry)
    failure = free_guest.interrupt_like_the_host().failure
    assert failure is not None
    assert failure.kind == "interrupted"


def test_interrupt_while_waiting_for_the_host_and_its_late_reply_are_survived(nursery: Nursery) -> None:
    guest = nursery.spawn().configure(databases=["main"])
    guest.start("db_tables()")
    call = guest.wait_for(Call)
    failure = guest.interrupt_like_the_host().failure
    assert failure is not None
    assert failure.kind == "interrupted"
    guest.send(CallReply(call_id=call.call_id, payload=b""))
    assert guest.run("1 + 1").value == values.IntValue(value=2)
    guest.close()


def test_write_that_nobody_reads_is_interrupted_and_forgotten(nursery: Nursery) -> None:
    guest = nursery.spawn(read_output=False).configure()
    guest.start("debug('started')\nwhile True:\n    print('x' * 100)")
    guest.wait_for(LogEntry)
    failure = guest.interrupt_like_the_host().failure
    assert failure is not None
    assert failure.kind == "interrupted"
    assert guest.run("1 + 1").value == values.IntValue(value=2)
    guest.close()


def test_program_that_catches_the_interrupt_goes_on(guest: Guest) -> None:
    guest.start(
        "try:\n    debug('started')\n    while True: pass\nexcept KeyboardInterrupt:\n    pass\n'caught'"
    )
    guest.wait_for(LogEntry)
    assert guest.interrupt_like_the_host().value == values.TextValue(text="caught", total_length=6)
