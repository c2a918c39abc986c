"""Arrays, tables and functions among a program's variables: their lines are recorded the quick way, and no
change is missed for it."""

import pytest

from sandboxd.guest.debug.recorder import Recorder
from tests.debugger.harness import Traced, trace_program
from tests.debugger.test_values import changes_of

_LOOP = """\
import numpy as np
import pandas as pd
def half(value):
    return value / 2
table = pd.DataFrame({{'x': [1, 2, 3], 'y': [1.5, 2.5, 3.5]}})
other = table
array = np.zeros(3)
same = array
column = table['x']
total = 0.0
for turn in range(3):
    {statement}
    total += 1.0
"""


def _traced(statement: str) -> Traced:
    traced = trace_program(_LOOP.format(statement=statement))
    assert traced.error is None
    assert not traced.run.recorder.missed_count
    return traced


@pytest.mark.parametrize("statement", ["array.fill(turn + 1)", "array[1] = turn + 1", "array += 1"])
def test_an_array_changed_in_place_is_seen_under_each_name(statement: str) -> None:
    traced = _traced(statement)

    assert len(changes_of(traced, "array")) == len(changes_of(traced, "same")) == 4


@pytest.mark.parametrize(
    "statement", ["table.insert(0, f'c{turn}', turn)", "table[f'c{turn}'] = turn", "table['x'] = [turn] * 3"]
)
def test_a_table_changed_in_place_is_seen_under_each_name(statement: str) -> None:
    traced = _traced(statement)

    assert len(changes_of(traced, "table")) == len(changes_of(traced, "other")) == 4


def test_a_table_bound_anew_is_seen_under_that_name_only() -> None:
    traced = _traced("table = table[table['x'] > turn]")

    assert [text.partition(" ")[0] for text in changes_of(traced, "table")] == [
        "DataFrame(3x2",
        "DataFrame(3x2",
        "DataFrame(2x2",
        "DataFrame(1x2",
    ]
    assert len(changes_of(traced, "other")) == 1


def test_a_name_that_changes_its_kind_is_followed() -> None:
    traced = _traced("column = [table, 1, column, 'text'][turn]")

    assert [text[:9] for text in changes_of(traced, "column")] == ["Series(3 ", "DataFrame", "1"]


def test_an_array_bound_to_a_number_and_back_is_still_watched() -> None:
    traced = _traced("array = 5; array = same; same[0] = turn + 1")

    assert len(changes_of(traced, "same")) == 4


def test_an_object_made_without_its_constructor_costs_no_step() -> None:
    traced = _traced("column = pd.DataFrame.__new__(pd.DataFrame)")

    assert changes_of(traced, "column")[-1].startswith("DataFrame")


def test_changes_found_the_quick_way_are_those_found_by_comparing_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statement = "column = half(table['y']); array = np.append(array, turn); table = table[table['x'] > 1]"
    names = ("table", "other", "array", "same", "column", "total", "turn")
    quickly = _traced(statement)
    monkeypatch.setattr(Recorder, "_may_be_quick", lambda _self, _state: False)
    slowly = _traced(statement)

    assert [changes_of(quickly, name) for name in names] == [changes_of(slowly, name) for name in names]


def test_lines_among_functions_and_library_objects_go_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_lines: list[int] = []
    genuine = Recorder.line

    def counted(self: Recorder, frame: object, line: int) -> None:
        slow_lines.append(line)
        genuine(self, frame, line)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "line", counted)
    traced = _traced("column = table['y'].cumsum()")

    assert traced.run.trace.step_count == 10 + 1 + 3 * 3
    assert slow_lines.count(12) <= 1
    assert slow_lines.count(13) <= 1
    assert slow_lines.count(11) <= 2


def test_names_of_a_star_import_are_variables() -> None:
    traced = trace_program("from math import *\nx = 1\n")

    assert changes_of(traced, "pi") == ["3.141592653589793"]
