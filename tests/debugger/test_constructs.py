"""Every odd construct of the language, step by step against an independent tracer."""

from pathlib import Path

import pytest

from tests.debugger.comparison import assert_same_as_reference


def _constructs() -> dict[str, str]:
    """The programs of constructs.txt by name."""
    parts = Path(__file__).with_name("constructs.txt").read_text().split("### ")[1:]
    return {name: source for name, _, source in (part.partition("\n") for part in parts)}


CONSTRUCTS = _constructs()


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_a_construct_steps_as_the_reference_says(name: str) -> None:
    assert_same_as_reference(CONSTRUCTS[name])


@pytest.mark.parametrize("name", ["multi line calls", "multi line conditions", "chained ifs", "recursion"])
def test_every_line_is_a_step_when_lines_are_asked_for(name: str) -> None:
    from tests.debugger.harness import trace_program

    statements = trace_program(CONSTRUCTS[name]).run.recorder.recorded_count
    lines = trace_program(CONSTRUCTS[name], by_line=True).run.recorder.recorded_count
    assert lines >= statements
