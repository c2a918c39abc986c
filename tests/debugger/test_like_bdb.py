"""Stepping means what it means to `bdb`, the debugger framework of CPython itself.

The same commands are given to both; what is compared is where the program stops. Two stops of bdb are left
out on its side: at the start of a function, before its first line, and at a return that nobody asked for.
"""

import bdb
import random
from collections.abc import Iterator
from typing import Any

import pytest
from sandboxd_api.v1 import debug_session_pb2 as wire

from sandboxd.channel import debug
from sandboxd.guest.debug.options import LINE
from tests.debugger.harness import LABEL, captured, fresh_namespace, trace_program

CALLS = """\
def first():
    a = 2
    b = 3
    return a + b
def second(x):
    y = first()
    return y * x
n = 1
m = second(n)
n = m + second(2)
done = n
"""
RECURSION = """\
def count(n):
    if n == 0:
        return 0
    rest = count(n - 1)
    return rest + 1
total = count(3)
total += count(1)
done = total
"""
LOOPS = """\
def square(x):
    y = x * x
    return y
total = 0
for i in range(3):
    total += square(i)
    if total > 2:
        continue
    total -= 1
while total > 0:
    total -= 2
else:
    total = 7
done = total
"""
GENERATORS = """\
def numbers(n):
    for i in range(n):
        yield i
    last = n
    return last
def pairs():
    got = yield from numbers(2)
    yield got
total = 0
for each in pairs():
    total += each
it = numbers(2)
a = next(it)
b = next(it)
done = total
"""
EXCEPTIONS = """\
def fails(x):
    y = 1 // x
    return y
def cleans(x):
    try:
        return fails(x)
    finally:
        z = 1
def catches(x):
    try:
        cleans(x)
    except ZeroDivisionError:
        return -1
    return 1
a = catches(1)
b = catches(0)
try:
    cleans(0)
except ZeroDivisionError:
    c = 3
done = a
"""
CLASSES = """\
class Lock:
    def __init__(self, name):
        self.name = name
    def __enter__(self):
        self.held = True
        return self
    def __exit__(self, *error):
        self.held = False
        return False
    def label(self):
        text = self.name
        return text
lock = Lock('a')
with lock as held:
    word = held.label()
    size = len(word)
done = lock.label()
"""
PROGRAMS = {
    "calls": CALLS,
    "recursion": RECURSION,
    "loops": LOOPS,
    "generators": GENERATORS,
    "exceptions": EXCEPTIONS,
    "classes": CLASSES,
}
Stop = tuple[str, int, str]
"""Whether before a line or at a return, the line, and the function."""
Command = tuple[str, int]
_CONTINUE: Command = ("continue", 0)


class _Bdb(bdb.Bdb):
    """Obeys a script and notes where it stops."""

    def __init__(self, script: list[Command]) -> None:
        super().__init__()
        self._script = iter(script)
        self._returns = False
        self.stops: list[Stop] = []

    def user_line(self, frame: Any) -> None:
        if frame.f_code.co_filename == LABEL:
            self._stop("line", frame)

    def user_return(self, frame: Any, return_value: Any) -> None:
        if self._returns and frame.f_code.co_filename == LABEL:
            self._stop("return", frame)

    def _stop(self, kind: str, frame: Any) -> None:
        self.stops.append((kind, frame.f_lineno, frame.f_code.co_name))
        mode, line = next(self._script, _CONTINUE)
        self._returns = mode in ("out", "to_line")
        match mode:
            case "into":
                self.set_step()
            case "over":
                self.set_next(frame)
            case "out":
                self.set_return(frame)
            case "to_line":
                self.set_until(frame, line)
            case _:
                self.set_continue()


def bdb_stops(source: str, script: list[Command]) -> list[Stop]:
    tracer = _Bdb(script)
    with captured():
        tracer.run(compile(source, LABEL, "exec"), fresh_namespace())
    return tracer.stops


def session_stops(source: str, script: list[Command]) -> list[Stop]:
    commands = [debug.ResumeRun(command_id=1, mode=mode, line=line) for mode, line in script]  # type: ignore[arg-type]
    traced = trace_program(source, *commands, interactive=True, stop_at_entry=True)
    events = {row.step: row.event for row in traced.run.trace.rows()}
    stops = [wire.Stopped.FromString(stop.payload) for stop in traced.host.of(debug.DebugStopped)]
    return [
        ("line" if events[stop.step] == LINE else "return", stop.line, stop.stack[-1].function)
        for stop in stops
    ]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("mode", ["into", "over"])
def test_the_same_step_again_and_again_stops_where_bdb_stops(name: str, mode: str) -> None:
    script: list[Command] = [(mode, 0)] * 200
    assert session_stops(PROGRAMS[name], script) == bdb_stops(PROGRAMS[name], script)


def scripts() -> Iterator[Any]:
    for name in sorted(set(PROGRAMS) - {"generators"}):  # bdb loses track at their end
        for seed in range(25):
            yield pytest.param(name, seed, id=f"{name}-{seed}")


@pytest.mark.parametrize(("name", "seed"), list(scripts()))
def test_steps_in_any_order_stop_where_bdb_stops(name: str, seed: int) -> None:
    choose = random.Random(seed)
    modes = choose.choices(["into", "over", "out"], weights=[5, 3, 1], k=60)
    script: list[Command] = [(mode, 0) for mode in modes]
    assert session_stops(PROGRAMS[name], script) == bdb_stops(PROGRAMS[name], script)


INTO_FIRST: list[Command] = [("over", 0), ("over", 0), ("over", 0), ("into", 0), ("into", 0)]
"""From the start of CALLS to the first line of `first`."""


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("calls", [*INTO_FIRST, ("to_line", 4), ("into", 0)]),
        ("calls", [*INTO_FIRST, ("to_line", 9999), ("over", 0), ("over", 0)]),
        ("calls", [("over", 0), ("to_line", 10), ("into", 0)]),
        ("loops", [("over", 0), ("over", 0), ("over", 0), ("over", 0), ("to_line", 10), ("over", 0)]),
        ("recursion", [("over", 0), ("into", 0), ("to_line", 5), ("over", 0)]),
        ("exceptions", [("to_line", 17), ("into", 0), ("into", 0), ("to_line", 15), ("over", 0)]),
    ],
)
def test_run_to_line_stops_where_until_stops(name: str, script: list[Command]) -> None:
    assert session_stops(PROGRAMS[name], script) == bdb_stops(PROGRAMS[name], script)


def test_run_to_line_waits_for_that_line_where_until_takes_a_later_one() -> None:
    source = "for i in range(3):\n    if i == 1:\n        x = 3\n    y = 4\nz = 5\n"
    script: list[Command] = [("over", 0), ("to_line", 3)]
    assert session_stops(source, script)[2] == ("line", 3, "<module>")
    assert bdb_stops(source, script)[2] == ("line", 4, "<module>")


def test_over_at_the_end_of_a_generator_stops_in_who_asked_it() -> None:
    script: list[Command] = [*[("over", 0)] * 3, *[("into", 0)] * 2, *[("over", 0)] * 12]
    stops = session_stops(GENERATORS, script)
    end = stops.index(("line", 5, "numbers"))
    assert stops[end + 1] == ("line", 8, "pairs")


def test_out_of_a_generator_stops_at_its_end_and_not_at_a_yield() -> None:
    script: list[Command] = [*[("over", 0)] * 3, *[("into", 0)] * 3, ("out", 0)]
    assert session_stops(GENERATORS, script)[-1] == ("return", 5, "numbers")
