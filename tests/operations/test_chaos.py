"""The fault programme itself: what misses a bar is named, what can't be run is never counted as passed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import CASES
from tests.chaos.model import Bar, Case, NotRun, Watch, judged, not_run

_ROOT = Path(__file__).parents[2]
_ROWS = "ABCDEFGHIJKLMNOPQRS"


def _watch(*bars: Bar) -> Watch:
    case = Case(row="X", what="nothing", bars=bars, rounds=1, quick_rounds=1, run=lambda _: None)
    return Watch(case=case, round_count=1, tick=lambda _: None)


def test_every_row_of_the_matrix_has_a_case() -> None:
    assert {case.row for case in CASES} == set(_ROWS)


def test_figure_above_its_bar_is_missed_and_named() -> None:
    watch = _watch(Bar(name="told", most=1.0), Bar(name="tail", most=1.0, of="p99"))
    for value in (0.5, 2.0):
        watch.measure("told", value)
    for value in [0.1] * 199 + [9.0]:
        watch.measure("tail", value)
    outcome = judged(watch, seconds=1)
    assert outcome.verdict == "MISSED"
    assert outcome.problems == ("told: 2 s, the bar is 1",)
    assert outcome.figures == {"told": 2.0, "tail": 0.1}


def test_nothing_measured_and_not_a_number_are_missed() -> None:
    watch = _watch(Bar(name="told", most=1.0), Bar(name="other", most=1.0))
    watch.measure("other", float("nan"))
    assert len(judged(watch, seconds=1).problems) == 2


def test_expectation_that_fails_is_missed_though_every_figure_is_well() -> None:
    watch = _watch(Bar(name="told", most=1.0))
    watch.measure("told", 0.1)
    assert judged(watch, seconds=1).verdict == "passed"
    watch.expect(False, "I1: lost")
    assert judged(watch, seconds=1).problems == ("I1: lost",)


def test_what_cannot_be_run_is_not_passed() -> None:
    outcome = not_run(_watch(), str(NotRun("no compiler")))
    assert (outcome.verdict, outcome.problems) == ("not run", ("no compiler",))


def _chaos(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
    )


@pytest.mark.slow
def test_row_is_run_against_a_real_server_and_told_as_json() -> None:
    done = _chaos("--only", "R", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = {case["what"]: case for case in json.loads(done.stdout)}
    assert told["unknown fields of a newer client"]["verdict"] == "passed"
    assert told["history of the last version"]["verdict"] == "not run"
    assert told["a kill while the history is made"]["figures"]["opens"] < 60


def test_unknown_row_is_refused_with_those_there_are() -> None:
    done = _chaos("--only", "Z")
    assert done.returncode == 2
    assert _ROWS in done.stderr
