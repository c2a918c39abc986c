"""Programs that do not want to end, or end as badly as they can. The server is unmoved by all of them."""

import pytest

from tests.support.serving import Serving

_LATE = 2.0
"""A run may be this many seconds late on a loaded machine; unloaded it is half a second."""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("while True: pass", id="loop"),
        pytest.param("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", id="regular_expression"),
        pytest.param("9**9**9", id="big_power"),
        pytest.param("import time\ntime.sleep(60)", id="sleep"),
        pytest.param("import asyncio\nasyncio.run(asyncio.sleep(60))", id="asyncio_run"),
        pytest.param("import asyncio\nawait asyncio.sleep(60)", id="top_level_await"),
        pytest.param("import threading\nthreading.Event().wait()", id="lock"),
        pytest.param("import select\nselect.select([], [], [])", id="select"),
        pytest.param("input()\nwhile True: pass", id="input"),
    ],
)
def test_a_run_without_end_is_interrupted(server: Serving, code: str) -> None:
    answer = server.quick(code, seconds=0.5)
    assert answer.state in ("TIMED_OUT", "FAILED"), answer.describe()  # input() finds the end of file
    assert answer.wall_seconds < 0.5 + _LATE
    if answer.state == "TIMED_OUT":
        assert answer.limit == "EXECUTION_TIMEOUT"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "import time\nwhile True:\n    try: time.sleep(1)\n    except BaseException: pass", id="swallowed"
        ),
        pytest.param(
            "import signal\nfor n in (2, 10, 14, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
            id="ignored",
        ),
        pytest.param(
            "import signal\nsignal.pthread_sigmask(0, range(1, 65))\nwhile True: pass", id="blocked"
        ),
        pytest.param(
            "def g():\n"
            "    try: yield\n"
            "    finally:\n"
            "        while True: pass\n"
            "x = g(); next(x); x.close()",
            id="finally",
        ),
        pytest.param(
            "class E(Exception):\n"
            "    def __str__(self):\n"
            "        while True: pass\n"
            "    __repr__ = __str__\n"
            "raise E()",
            id="exception_whose_text_never_ends",
        ),
        pytest.param(
            "class R:\n"
            "    def __repr__(self):\n"
            "        while True: pass\n"
            "__result__ = R()",
            id="result_whose_text_never_ends",
        ),
        pytest.param(
            "class D:\n"
            "    def __del__(self):\n"
            "        while True: pass\n"
            "x = D(); del x",
            id="destructor",
        ),
        pytest.param(
            "import sys\n"
            "def trace(*a):\n"
            "    while True:\n"
            "        try:\n"
            "            while True: pass\n"
            "        except BaseException: pass\n"
            "sys.settrace(trace)\n"
            "def f(): pass\n"
            "f()",
            id="trace_function",
        ),
        pytest.param("import signal\nsignal.setitimer(0, 0.001, 0.001)\nwhile True: pass", id="alarms"),
    ],
)  # fmt: skip
def test_a_run_that_ignores_every_signal_is_ended(server: Serving, code: str) -> None:
    sandbox = server.create()
    answer = server.run(sandbox, code, seconds=0.5)
    assert answer.state in ("TIMED_OUT", "FAILED", "SUCCEEDED"), answer.describe()
    assert answer.wall_seconds < 0.5 + _LATE
    assert server.run(sandbox, "print(1+1)").stdout == "2"
    server.delete(sandbox)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        pytest.param("import os\nos._exit(0)", "EXITED", id="exit"),
        pytest.param("import os\nos._exit(7)", "EXITED", id="exit_with_a_code"),
        pytest.param("import ctypes\nctypes.string_at(0)", "CRASHED", id="null_pointer"),
        pytest.param("import os\nos.abort()", "CRASHED", id="abort"),
        pytest.param("import sys\nsys.exit(3)", "EXCEPTION", id="sys_exit"),
        pytest.param("raise KeyboardInterrupt", "EXCEPTION", id="keyboard_interrupt"),
        pytest.param("def f(): f()\nf()", "EXCEPTION", id="recursion"),
        pytest.param("x = []\nfor _ in range(10**5): x = [x]\nrepr(x)", "EXCEPTION", id="deep_repr"),
        pytest.param("compile('(' * 5000 + ')' * 5000, 'x', 'eval')", None, id="deep_source"),
        pytest.param("import ctypes\nctypes.memset(id(int), 0, 400)\nint()", None, id="broken_interpreter"),
        pytest.param("import gc\nfor o in gc.get_objects():\n  try: o.clear()\n  except: pass", None,
                     id="everything_cleared"),
        pytest.param("import sys\nsys.modules.clear()\nimport builtins\nbuiltins.__dict__.clear()", None,
                     id="no_modules_no_builtins"),
        pytest.param("import os\nos.closerange(0, 100)", None, id="everything_closed"),
        pytest.param("import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)\nf(0)", None,
                     id="no_recursion_limit"),
        pytest.param("print('\\udcff', b'\\xff\\xfe', '\\x00', chr(0x10ffff))", None, id="odd_text"),
        pytest.param("import os\nos.write(1, bytes(range(256)))", None, id="bytes_that_are_not_text"),
        pytest.param("raise type('E' * 100_000, (Exception,), {})('\\ud800' * 100_000)", "EXCEPTION",
                     id="enormous_exception"),
    ],
)  # fmt: skip
def test_however_a_run_ends_the_answer_is_a_result(server: Serving, code: str, failure: str | None) -> None:
    sandbox = server.create()
    answer = server.run(sandbox, code, seconds=3)
    if failure:
        assert answer.failure == failure, answer.describe()
    assert answer.execution.ByteSize() < 4 << 20
    assert server.run(sandbox, "print(1+1)").stdout in (
        "2",
        "",
    )  # a session may be beyond use, not the server
    server.delete(sandbox)
    assert server.output("print(1+1)") == "2"


def test_a_process_cannot_stop_itself(server: Serving) -> None:
    answer = server.quick("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)")
    assert answer.result.failure.type_name.endswith("PermissionError")
