"""Programs that mean harm or have none of it in mind: each ends as a failure, the session goes on."""

import msgspec
import pytest

from sandboxd.channel import values
from sandboxd.channel.messages import Run
from tests.unit.guest.nursery import RESTRICTED, Guest, GuestDied, Nursery

FAILING = {
    "SystemExit": ("raise SystemExit(3)", "exception", "SystemExit"),
    "exit": ("exit()", "exception", "SystemExit"),
    "KeyboardInterrupt of its own": ("raise KeyboardInterrupt", "interrupted", "KeyboardInterrupt"),
    "GeneratorExit": ("raise GeneratorExit", "exception", "GeneratorExit"),
    "CancelledError": (
        "import asyncio\nraise asyncio.CancelledError", "exception", "asyncio.exceptions.CancelledError",
    ),
    "recursion": ("def f(): f()\nf()", "exception", "RecursionError"),
    "recursion in await": ("async def f(): await f()\nawait f()", "exception", "RecursionError"),
    "str that raises": (
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", "exception", "E",
    ),
    "str of another type": (
        "class E(Exception):\n    def __str__(self): return 5\nraise E", "exception", "E",
    ),
    "surrogates in the message": ("raise ValueError('\\ud800')", "exception", "ValueError"),
    "huge message": ("raise ValueError('x' * 10_000_000)", "exception", "ValueError"),
    "metaclass that lies": (
        "class M(type):\n    def __getattribute__(cls, name): raise SystemExit\n"
        "class E(Exception, metaclass=M): pass\nraise E", "exception", "E",
    ),
    "module that is no text": ("class E(Exception): __module__ = 5\nraise E", "exception", "E"),
    "cyclic causes": (
        "a, b = ValueError(1), ValueError(2)\na.__cause__ = b\nb.__cause__ = a\nraise a",
        "exception", "ValueError",
    ),
    "long chain of contexts": (
        "e = ValueError(0)\nfor n in range(5000):\n    f = ValueError(n)\n    f.__context__ = e\n    e = f\n"
        "raise e",
        "exception", "ValueError",
    ),
    "exception group": (
        "raise ExceptionGroup('many', [ValueError(n) for n in range(1000)])", "exception", "ExceptionGroup",
    ),
    "deleted builtins": ("__builtins__.clear()\nprint", "exception", "NameError"),
}  # fmt: skip

NO_PROGRAM = {
    "nesting of parentheses": "(" * 100_000 + ")" * 100_000,
    "nesting of lists": "[" * 90 + "]" * 90 + "+" + "-" * 100_000 + "1",
    "long sum": "1" + "+1" * 200_000,
    "attribute chain": "a" + ".a" * 100_000,
    "nested blocks": "\n".join(" " * n + "if 1:" for n in range(200)),
    "null byte": "x = 1\0",
    "huge integer": "9" * 1_000_000,
    "half a string": "'",
    "bad indentation": "if 1:\nx",
    "return": "return 5",
    "unknown encoding": "# coding: nonsense\n'\\N{no such name}'",
    "deeply nested functions": "".join(f"{' ' * n}def f{n}():\n" for n in range(120)) + " " * 120 + "pass",
    "lambda chain": "lambda: " * 5_000 + "0",
    "f-strings": "f'" + "{" * 5_000,
}


@pytest.mark.parametrize(("source", "kind", "type_name"), FAILING.values(), ids=FAILING)
def test_failure_is_reported_and_the_session_lives_on(
    guest: Guest, source: str, kind: str, type_name: str
) -> None:
    failure = guest.run(source).failure
    assert failure is not None
    assert (failure.kind, failure.type_name) == (kind, type_name)
    assert len(failure.traceback) < 40_000
    assert guest.run("1").value == values.IntValue(value=1)


@pytest.mark.parametrize("source", NO_PROGRAM.values(), ids=NO_PROGRAM)
def test_text_that_is_no_program_is_a_syntax_error(guest: Guest, source: str) -> None:
    failure = guest.run(source).failure
    assert failure is not None
    assert failure.kind == "syntax_error"
    assert len(failure.traceback) < 40_000
    assert guest.run("1").value == values.IntValue(value=1)


def test_deep_value_is_cut_and_not_fatal(guest: Guest) -> None:
    finished = guest.run("x = []\nfor _ in range(100_000):\n    x = [x]\nx")
    assert finished.value_truncated
    assert isinstance(finished.value, values.ListValue)
    assert guest.inspect().variables[0].truncated


@pytest.mark.parametrize(
    "source",
    [
        "list(range(10_000_000))",
        "'x' * 50_000_000",
        "b'x' * 50_000_000",
        "{n: str(n) for n in range(300_000)}",
        "import numpy as np\nnp.arange(10_000_000)",
        "import pandas as pd\npd.DataFrame({'a': range(500_000), 'b': ['text'] * 500_000})",
        "import pandas as pd\npd.DataFrame([[0] * 50_000])",
        "['\\U0001f600' * 1000] * 10_000",
        "10 ** 4000",
        "[[[[1] * 50] * 50] * 50] * 50",
        "range(10 ** 30)",
        "x = []\nx += [x] * 100_000\nx",
    ],
)
def test_huge_result_is_cut_to_its_size_and_says_so(nursery: Nursery, source: str) -> None:
    limit = 100_000
    guest = nursery.spawn().configure(RESTRICTED, result_bytes=limit)
    finished = guest.run(source)
    assert finished.failure is None
    assert finished.value is not None
    assert len(msgspec.msgpack.encode(finished.value)) <= limit
    assert finished.value_truncated or source.startswith("10 **")
    guest.close()


@pytest.mark.parametrize(
    "source",
    [
        "bytearray(600_000_000)",
        "x = [0] * 10 ** 9",
        "x = []\nwhile True:\n    x.append('y' * 1000 + str(len(x)))",
        "import numpy as np\nnp.ones(10 ** 9)",
        "async def f():\n    return bytearray(600_000_000)\nawait f()",
        "d = {}\nwhile True:\n    d[len(d)] = len(d)",
    ],
)
def test_memory_error_is_survived(nursery: Nursery, source: str) -> None:
    guest = nursery.spawn(data_bytes=64 << 20).configure()
    failure = guest.run(source).failure
    assert failure is not None
    assert failure.kind == "memory_error" or "allocate" in failure.message
    guest.run("x = d = None")
    assert guest.run("1").value == values.IntValue(value=1)
    guest.close()


def test_host_that_breaks_the_framing_ends_the_guest(guest: Guest) -> None:
    guest.send_bytes(b"\xff\xff\xff\xff")
    with pytest.raises((GuestDied, ConnectionError)):
        guest.run("1")


def test_sources_of_any_label_are_run(guest: Guest) -> None:
    guest.send(Run(run_id=9, source="1/0", label="a\nlabel <>"))
    guest._run_id = 9
    failure = guest.finish().failure
    assert failure is not None
    assert failure.type_name == "ZeroDivisionError"
