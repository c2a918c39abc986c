"""Language rules: what is refused before the run, what while running, and what is left alone."""

import ast

import pytest

from sandboxd.channel import values
from sandboxd.guest.language import Language
from sandboxd.guest.rules import find_violations
from tests.unit.guest.nursery import RESTRICTED, UNRESTRICTED, Guest

REFUSED = {
    "import os": ("os", 1, 1),
    "x = 1\nimport json, sys": ("sys", 2, 1),
    "import os.path": ("os.path", 1, 1),
    "from os import path": ("os", 1, 1),
    "from subprocess import run as r": ("subprocess", 1, 1),
    "import urllib": ("urllib", 1, 1),
    "import urllib.request": ("urllib.request", 1, 1),
    "from urllib import request": ("urllib", 1, 1),
    "import socket as s": ("socket", 1, 1),
    "import sklearn": ("sklearn", 1, 1),
    "def f():\n    import os": ("os", 2, 5),
    "try:\n    import os\nfinally:\n    pass": ("os", 2, 5),
    "eval('1')": ("eval", 1, 1),
    "x = [exec]": ("exec", 1, 6),
    "f = compile": ("compile", 1, 5),
    "print(globals())": ("globals", 1, 7),
    "locals()": ("locals", 1, 1),
    "vars()": ("vars", 1, 1),
    "__import__('os')": ("__import__", 1, 1),
    "input()": ("input", 1, 1),
    "breakpoint()": ("breakpoint", 1, 1),
}

ALLOWED = [
    "import json, math, re, collections.abc, urllib.parse, concurrent.futures",
    "from urllib import parse",
    "from urllib.parse import quote",
    "import pandas as pd\npd.DataFrame({'a': [1]}).eval('a + 1')",
    "import re\nre.compile('x')",
    "import re\ncompile = re.compile\ncompile('x')",
    "def vars():\n    return 1\nvars()",
    "def f(input):\n    return input\nf(1)",
    "class eval: pass\neval()",
    "for exec in [1]:\n    exec",
    "import json as compile\ncompile.dumps(1)",
    "try:\n    import orjson\nexcept ImportError:\n    orjson = None",
    "try:\n    import os\nexcept (ValueError, ImportError):\n    pass",
    "from __future__ import annotations",
    "open('file.txt', 'w').close()",
    "match {'a': 1}:\n    case {'a': 1, **vars}:\n        vars",
]


def _find(source: str, rules=RESTRICTED, known: frozenset[str] = frozenset()):  # type: ignore[no-untyped-def]
    return find_violations(ast.parse(source), Language(rules), known_names=known)


@pytest.mark.parametrize(("source", "expected"), REFUSED.items(), ids=REFUSED)
def test_violation_is_found_with_its_place_and_an_alternative(
    source: str, expected: tuple[str, int, int]
) -> None:
    (violation,) = _find(source)
    name, line, column = expected
    assert name in violation.message
    assert (violation.line, violation.column) == (line, column)
    assert violation.rule in ("blocked-module", "blocked-builtin")
    assert violation.alternative


@pytest.mark.parametrize("source", ALLOWED)
def test_harmless_text_has_no_violation(source: str) -> None:
    assert _find(source) == []


@pytest.mark.parametrize("source", REFUSED)
def test_nothing_is_a_violation_where_rules_are_off(source: str) -> None:
    assert _find(source, UNRESTRICTED) == []


def test_all_violations_are_listed_in_order_and_their_number_is_bounded() -> None:
    assert [each.line for each in _find("eval\nimport os\nexec\nimport sys")] == [1, 2, 3, 4]
    assert len(_find("eval\n" * 1000)) == 50


def test_name_from_an_earlier_execution_is_the_users_own() -> None:
    assert _find("compile('x')", known=frozenset({"compile"})) == []


def test_refusal_happens_before_anything_runs(guest: Guest) -> None:
    failure = guest.run("print('ran')\nimport os").failure
    assert failure is not None
    assert failure.kind == "policy_violation"
    assert [(each.line, each.column) for each in failure.violations] == [(2, 1)]
    assert "pathlib" in failure.message
    assert guest.output() == ""


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("m = 'os'\n__builtins__['__import__'](m)", 2),
        ("__builtins__['eval']('1')", 1),
        ("def f():\n    try:\n        import os\n    except ImportError:\n        raise\nf()", 3),
    ],
)
def test_what_the_text_hides_is_refused_while_it_runs(guest: Guest, source: str, line: int) -> None:
    failure = guest.run(source).failure
    assert failure is not None
    assert failure.kind == "policy_violation"
    assert failure.violations[0].line == line


def test_handled_import_failure_takes_the_programs_own_way(guest: Guest) -> None:
    code = "try:\n    import orjson as json\nexcept ImportError:\n    import json\njson.dumps([1])"
    assert guest.run(code).value == values.TextValue(text="[1]", total_length=3)


def test_libraries_import_what_they_need(guest: Guest) -> None:
    code = """
import tempfile, pathlib, dataclasses, collections, typing
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "a.txt")
    path.write_text("kept")
    text = path.read_text()
Point = collections.namedtuple("Point", "x y")
@dataclasses.dataclass
class Item:
    name: str
text + Item("n").name + str(Point(1, 2).x)
"""
    assert guest.run(code).value == values.TextValue(text="keptn1", total_length=6)


def test_unrestricted_guest_may_do_what_the_rules_refuse(free_guest: Guest) -> None:
    code = "import os, sys\nexec('x = 5')\neval('x') + len(vars()) * 0 + (os.getpid() > 0)"
    assert free_guest.run(code).value == values.IntValue(value=6)


def test_new_rules_hold_from_the_next_execution_on(guest: Guest) -> None:
    assert guest.run("import os").failure is not None
    guest.configure(UNRESTRICTED)
    assert guest.run("import os").failure is None
