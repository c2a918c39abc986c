"""What a failure tells: type, message, the user's own lines, frames with variables; no host paths."""

import pytest

from tests.unit.guest.nursery import Guest


def _failure(guest: Guest, source: str, **options):  # type: ignore[no-untyped-def]
    failure = guest.run(source, **options).failure
    assert failure is not None
    assert "/site-packages/" not in failure.traceback
    assert "sandboxd" not in failure.traceback
    return failure


def test_traceback_shows_the_users_lines(guest: Guest) -> None:
    failure = _failure(guest, "def inner(n):\n    return 1 / n\n\ndef outer():\n    inner(0)\n\nouter()")
    assert (failure.kind, failure.type_name, failure.message) == (
        "exception",
        "ZeroDivisionError",
        "division by zero",
    )
    lines = [line for line in failure.traceback.splitlines() if not set(line) <= set(" ~^")]
    assert lines == [
        "Traceback (most recent call last):",
        '  File "<execution 1>", line 7, in <module>',
        "    outer()",
        '  File "<execution 1>", line 5, in outer',
        "    inner(0)",
        '  File "<execution 1>", line 2, in inner',
        "    return 1 / n",
        "ZeroDivisionError: division by zero",
    ]


def test_calls_inside_libraries_are_one_line_without_paths(guest: Guest) -> None:
    failure = _failure(guest, "import json\njson.loads('{')")
    assert "  in library code: json.loads ... json.decoder." in failure.traceback
    assert failure.type_name == "json.decoder.JSONDecodeError"
    assert [frame.in_user_code for frame in failure.frames] == [True, False, False, False]
    assert failure.frames[1].label == "json"
    assert failure.frames[1].source_line == ""


def test_function_of_an_earlier_execution_keeps_its_lines(guest: Guest) -> None:
    guest.run("def broken():\n    raise ValueError('old')")
    failure = _failure(guest, "broken()")
    assert "  File \"<execution 1>\", line 2, in broken\n    raise ValueError('old')" in failure.traceback


def test_causes_contexts_notes_and_groups_are_shown(guest: Guest) -> None:
    failure = _failure(
        guest,
        "try:\n    try:\n        {}['missing']\n    except KeyError as error:\n"
        "        raise ValueError('second') from error\nexcept ValueError as error:\n"
        "    error.add_note('a note')\n    raise ExceptionGroup('group', [error])",
    )
    parts = ("KeyError: 'missing'", "direct cause", "ValueError: second", "a note", "ExceptionGroup: group")
    for part in parts:
        assert part in failure.traceback


def test_suggestion_for_a_misspelt_name_is_kept(guest: Guest) -> None:
    failure = _failure(guest, "counter = 1\ncountr")
    assert failure.message == "name 'countr' is not defined"


def test_syntax_error_shows_the_place(guest: Guest) -> None:
    failure = _failure(guest, "x = 1\nif x\n    pass")
    assert failure.kind == "syntax_error"
    assert failure.message == "expected ':' (line 2)"
    assert '  File "<execution 1>", line 2\n    if x\n        ^\n' in failure.traceback


def test_recursion_is_shortened(guest: Guest) -> None:
    failure = _failure(guest, "def f(n):\n    return f(n + 1)\nf(0)")
    assert failure.type_name == "RecursionError"
    assert "Previous line repeated" in failure.traceback
    assert len(failure.frames) == 40


def test_mutual_recursion_is_shortened(guest: Guest) -> None:
    failure = _failure(guest, "def f(n):\n    return g(n)\ndef g(n):\n    return f(n)\nf(0)")
    assert "more entries" in failure.traceback
    assert len(failure.traceback) < 10_000


def test_frames_carry_bounded_variables_when_asked(guest: Guest) -> None:
    source = (
        "big = list(range(10 ** 6))\nunused = 5\ndef f(a, b='x'):\n    c = {'k': a}\n"
        "    raise ValueError\nf(big)"
    )
    failure = _failure(guest, source, capture_frames=True)
    outer, inner = failure.frames
    assert [each.name for each in outer.variables] == ["big", "unused", "f"]
    assert outer.variables[0].truncated
    assert [(each.name, each.type_name) for each in inner.variables] == [
        ("a", "list"),
        ("b", "str"),
        ("c", "dict"),
    ]
    assert all(len(each.summary) <= 300 for each in inner.variables)


def test_frames_are_without_variables_when_not_asked(guest: Guest) -> None:
    failure = _failure(guest, "x = 1\n1 / 0")
    assert failure.frames[0].variables == []


@pytest.mark.parametrize(
    "source",
    [
        "from collections import namedtuple\nnamedtuple('P', 'x')(1, 2)",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nA()",
        "sorted([1, 'a'])",
        "import asyncio\nasync def f():\n    raise OSError\nawait asyncio.gather(f(), f())",
        "import pandas as pd\npd.DataFrame({'a': [1]}).apply(lambda row: row['missing'], axis=1)",
        "import threading\n1 / 0",
    ],
)
def test_innermost_user_line_is_named(guest: Guest, source: str) -> None:
    failure = _failure(guest, source)
    assert any(frame.in_user_code for frame in failure.frames)
    assert "<execution 1>" in failure.traceback
