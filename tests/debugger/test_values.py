"""Pictures of values: no user code runs, long containers are followed, cycles end."""

import time
from typing import Any

import pytest

from sandboxd.channel import debug
from sandboxd.guest.debug.show import show
from tests.debugger.harness import Traced, trace_program

HOSTILE = """
calls = []
class Meta(type):
    def __hash__(cls): calls.append('hash'); return 1
    def __eq__(cls, other): calls.append('eq'); return True
    def __instancecheck__(cls, other): calls.append('check'); return True
class Hostile(metaclass=Meta):
    def __init__(self): object.__setattr__(self, 'x', 1)
    def __repr__(self):
        calls.append('repr')
        while True: pass
    __str__ = __repr__
    def __getattribute__(self, name): calls.append(name); return object.__getattribute__(self, name)
    def __eq__(self, other): calls.append('eq'); return True
    def __hash__(self): return 1
    def __bool__(self): calls.append('bool'); return False
    def __len__(self): calls.append('len'); return 5
    def __iter__(self): calls.append('iter'); return iter([1])
    @property
    def endless(self):
        while True: pass
class Text(str):
    def __repr__(self): calls.append('repr')
    def __len__(self): calls.append('len'); return 3
class Items(list):
    def __iter__(self): calls.append('iter'); return iter([])
    def __len__(self): calls.append('len'); return 0
h = Hostile()
box = [h, {1: h}, (h,)]
t = Text('abc')
i = Items([1, 2])
box.append(h)
def f(v):
    w = v
    return w
f(h)
count = len(calls)
"""


def changes_of(traced: Traced, name: str) -> list[str]:
    """Every recorded change of a variable as text."""
    number = traced.run.recorder.names[name]
    found = []
    for row in traced.run.trace.rows():
        for changed, picture, patch, _is_global in row.changes:
            if changed == number:
                if patch is not None:
                    found.append(f"[{patch[0]}]={show(patch[1])} of {patch[2]}")
                else:
                    found.append("unbound" if picture is None else show(picture, 200))
    return found


def test_a_hostile_class_is_shown_without_running_its_code() -> None:
    traced = trace_program(HOSTILE)
    assert traced.error is None
    assert traced.namespace["calls"] == []
    assert changes_of(traced, "h") == ["Hostile(x=1)"]
    assert changes_of(traced, "i")[-1] == "[1, 2]"
    assert changes_of(traced, "t") == ["'abc'"]


def test_plain_rendering_of_the_same_class_would_hang() -> None:
    """The control: `repr` runs the class's own code."""
    namespace: dict[str, Any] = {}
    exec(HOSTILE.replace("while True: pass", "raise RuntimeError('ran')"), namespace)
    with pytest.raises(RuntimeError):
        repr(namespace["h"])
    assert "repr" in namespace["calls"]


def test_a_change_deep_in_a_long_list_is_seen() -> None:
    source = "a = list(range(1000, 1300))\na[200] = 5\na[10], a[299] = 1, 2\nb = a\na.append(9)\n"
    assert changes_of(trace_program(source), "a")[1:] == [
        "[200]=5 of 300",
        "[10]=1 of 300",
        "[299]=2 of 300",
        "[300]=9 of 301",
    ]


def test_a_change_in_a_hidden_row_is_seen() -> None:
    source = "grid = [[0] * 20 for _ in range(20)]\ngrid[15][3] = 1\nn = 1\n"
    assert len(changes_of(trace_program(source), "grid")) == 2


def test_a_change_through_an_alias_is_seen_under_each_name() -> None:
    source = "a = [1]\nb = a\nc = {'k': a}\nb.append(2)\nn = 1\n"
    traced = trace_program(source)
    assert changes_of(traced, "a")[-1] == changes_of(traced, "b")[-1] == "[1, 2]"
    assert changes_of(traced, "c")[-1] == "{'k': [1, 2]}"


def test_a_cycle_ends_in_a_reference() -> None:
    assert changes_of(trace_program("a = [1]\na.append(a)\nn = 1\n"), "a")[-1] == "[1, <...>]"


def test_what_is_cut_is_said() -> None:
    traced = trace_program("s = 'x' * 5000\nv = list(range(100))\nn = 10 ** 1000\n")
    assert changes_of(traced, "s")[0].endswith("... 5000 in all")
    assert changes_of(traced, "v")[0].endswith("... 100 in all]")
    assert "bits" in changes_of(traced, "n")[0]


def test_numpy_and_pandas_are_shown_by_shape() -> None:
    source = (
        "import numpy as np, pandas as pd\na = np.zeros((3, 4))\na[1] = 5\n"
        "d = pd.DataFrame({'x': [1, 2]})\nd['y'] = 1.5\nn = 1\n"
    )
    traced = trace_program(source)
    assert traced.error is None
    assert changes_of(traced, "a")[0].startswith("ndarray(3x4 float64")
    assert changes_of(traced, "d")[0] == "DataFrame(2x1 [x: int64])"
    assert changes_of(traced, "d")[-1] == "DataFrame(2x2 [x: int64, y: float64])"


def test_objects_die_when_they_would_untraced() -> None:
    source = (
        "class D:\n    def __init__(self, n): self.n = n\n    def __del__(self): print('gone', self.n)\n"
        "x = D(1)\nx = None\nprint('after')\ny = [D(2)]\ny.clear()\nprint('end')\n"
    )
    assert trace_program(source).stdout == "gone 1\nafter\ngone 2\nend\n"


def test_giant_objects_cost_no_long_step() -> None:
    source = (
        "a = list(range(3_000_000))\na[5] = 1\nd = dict.fromkeys(range(500_000))\nd[1] = 2\n"
        "s = 'x' * 50_000_000\ns += 'y'\nn = 1\n"
    )
    start = time.process_time()
    exec(compile(source, "plain", "exec"), {})
    plain = time.process_time() - start
    start = time.process_time()
    traced = trace_program(source)
    assert time.process_time() - start < plain * 3 + 0.5
    assert traced.error is None


def test_the_answer_to_a_question_is_bounded() -> None:
    traced = trace_program("for i in range(2000):\n    x = i\n")
    done = traced.ask(debug.TraceText(), max_characters=200)
    assert len(done.payload) < 500
    assert b"max_characters" in done.payload
