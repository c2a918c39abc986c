"""Compares a traced run with the reference tracer's."""

from typing import Any

from sandboxd.guest.debug.options import LINE
from sandboxd.guest.debug.show import Instance, Opaque, Partial, read_value
from tests.debugger.harness import LABEL, captured, compile_program, fresh_namespace, run_code, trace_program
from tests.debugger.reference import Seen, plain_copy, reference_run


def traced_lines(traced: Any) -> list[Seen]:
    """The LINE steps of a traced run, read back from its encoded batches."""
    names = list(traced.run.recorder.names)
    codes = traced.run.recorder.tracking.codes
    cache: dict[bytes, Any] = {}
    found = []
    for state, row in traced.run.trace.walk():
        if row.event != LINE:
            continue
        frame = state.frames[row.frame]
        variables = {}
        for name, picture in frame.variables.items():
            if picture not in cache:
                cache[picture] = read_value(picture)
            value = cache[picture]
            if not isinstance(value, Opaque | Partial | Instance):
                variables[names[name - 1]] = value
        found.append(Seen(codes[frame.row.code - 1].name, row.line, variables))
    return found


def assert_same_as_reference(source: str, **settings: Any) -> None:
    """Runs `source` plain, under the reference and under the product; all must agree."""
    plan, code = compile_program(source, wrapped=False)
    plain_names = fresh_namespace()
    with captured() as plain_out:
        plain_error = run_code(code, plain_names)
    with captured() as out:
        error, expected = reference_run(source, LABEL, code, fresh_namespace(), run_code)
    assert repr(error) == repr(plain_error)
    traced = trace_program(source, trace_bytes=1 << 30, max_steps=10_000_000, **settings)
    assert traced.stdout == plain_out.getvalue() == out.getvalue()
    assert repr(traced.error) == repr(plain_error)
    plain_result = plain_copy(plain_names.get("__result__"))
    assert plain_copy(traced.namespace.get("__result__")) == plain_result
    assert not traced.run._hook.interrupted, "the hook is said to be gone"
    assert traced.run.recorder.missed_count == 0, traced.run.recorder.fault
    got = traced_lines(traced)
    compare(got, expected)
    assert plan.lines


def compare(got: list[Seen], expected: list[Seen]) -> None:
    """Line by line; what the reference could not copy is not compared."""
    for number, (one, other) in enumerate(zip(got, expected, strict=False)):
        if (one.function, one.line) != (other.function, other.line):
            near = slice(max(number - 4, 0), number + 6)
            raise AssertionError(
                f"step {number}: {[(each.function, each.line) for each in got[near]]}"
                f" but expected {[(each.function, each.line) for each in expected[near]]}"
            )
        assert one.variables.keys() <= other.bound, (number, one.line, one.variables.keys() - other.bound)
        for name, value in other.variables.items():
            assert name in one.variables or isinstance(value, complex), (number, one.line, name)
            assert repr(one.variables[name]) == repr(value) or one.variables[name] == value, (
                number,
                one.line,
                name,
            )
    assert len(got) == len(expected)
