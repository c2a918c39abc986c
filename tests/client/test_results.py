"""What an execution comes back with, over a real server process."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sandboxd_client import (
    Array,
    Client,
    Csv,
    Description,
    ExecutionFailed,
    Limits,
    Sandbox,
    Series,
    Table,
    is_cut,
)


async def test_result_is_the_last_expression_or_what_was_set(sandbox: Sandbox) -> None:
    assert (await sandbox.execute("40 + 2")).result == 42
    assert (await sandbox.execute("__result__ = 'set'\n1")).result == "set"
    nothing = await sandbox.execute("x = 1")
    assert (nothing.result, nothing.has_result) == (None, False)


async def test_state_lives_on_between_executions(sandbox: Sandbox) -> None:
    await sandbox.execute("import math\nx = 20\ndef double(n): return 2 * n")
    assert (await sandbox.execute("double(x) + math.floor(2.5)")).result == 42


async def test_typed_values_come_back_as_python_objects(sandbox: Sandbox) -> None:
    code = """
import datetime, decimal
{
    "big": 2**100, "text": "né", "data": b"\\xff", "nan": float("nan"), "decimal": decimal.Decimal("1.10"),
    "day": datetime.date(2024, 1, 31), "tuple": (1, [2]), "set": {1, 2}, "none": None,
    "moment": datetime.datetime(2024, 1, 31, 12, tzinfo=datetime.timezone.utc),
    "span": datetime.timedelta(seconds=1.5), "map": {1: "a"},
}
"""
    found = (await sandbox.execute(code)).raise_for_status().result
    assert math.isnan(found.pop("nan"))
    assert found == {
        "big": 2**100,
        "text": "né",
        "data": b"\xff",
        "decimal": Decimal("1.10"),
        "day": date(2024, 1, 31),
        "tuple": (1, [2]),
        "set": {1, 2},
        "none": None,
        "moment": datetime(2024, 1, 31, 12, tzinfo=UTC),
        "span": timedelta(seconds=1.5),
        "map": {1: "a"},
    }


async def test_arrays_and_tables_come_back_whole(sandbox: Sandbox) -> None:
    code = """
import numpy as np, pandas as pd
frame = pd.DataFrame({"n": [1, 2], "s": ["a", None], "f": [0.5, float("nan")]})
(np.arange(6).reshape(2, 3), frame, frame["n"])
"""
    array, table, series = (await sandbox.execute(code)).raise_for_status().result
    assert isinstance(array, Array)
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert isinstance(table, Table)
    assert table.column_names == ("n", "s", "f")
    assert table.to_pandas()["n"].tolist() == [1, 2]
    assert isinstance(series, Series)
    assert series.to_dict() == {0: 1, 1: 2}


async def test_object_without_a_value_is_described(sandbox: Sandbox) -> None:
    found = (await sandbox.execute("class Thing: pass\nThing()")).raise_for_status().result
    assert isinstance(found, Description)
    assert "Thing" in found.type_name


async def test_failure_of_user_code_is_a_result(sandbox: Sandbox) -> None:
    result = await sandbox.execute("def f(x):\n    return 1 / x\n\nprint('before')\nf(0)")
    assert result.status == "failed"
    assert result.stdout == "before\n"
    assert result.error is not None
    assert result.error.type == "ZeroDivisionError"
    assert result.error.line == 2
    assert "return 1 / x" in result.error.traceback
    assert "ZeroDivisionError: division by zero" in str(result.error)
    with pytest.raises(ExecutionFailed, match="ZeroDivisionError"):
        result.raise_for_status()


async def test_frames_carry_variables_where_they_are_asked_for(sandbox: Sandbox) -> None:
    code = "def f(x):\n    y = x + 1\n    return y / 0\nf(41)"
    result = await sandbox.execute(code, capture_frames=True)
    assert result.error is not None
    variables = {variable.name: variable.summary for variable in result.error.frames[-1].variables}
    assert variables == {"x": "41", "y": "42"}


async def test_blocked_import_is_explained_with_place_and_alternative(sandbox: Sandbox) -> None:
    result = await sandbox.execute("print('never')\nimport subprocess")
    assert result.status == "failed"
    assert result.stdout == ""
    assert result.error is not None
    assert result.error.kind == "policy_violation"
    (violation,) = result.error.violations
    assert (violation.line, violation.column) == (2, 1)
    assert violation.alternative
    assert "line 2" in str(result.error)


async def test_timeout_ends_the_code_and_keeps_the_session(sandbox: Sandbox) -> None:
    await sandbox.execute("kept = 1")
    result = await sandbox.execute("print('started', flush=True)\nwhile True: pass", timeout=0.5)
    assert result.status == "timed_out"
    assert result.stdout == "started\n"
    assert result.limit_receipt is not None
    assert result.limit_receipt.limit == "execution_timeout"
    assert result.limit_receipt.limit_value == 500
    assert (await sandbox.execute("kept")).result == 1


async def test_inputs_are_bound_before_the_run(sandbox: Sandbox) -> None:
    result = await sandbox.execute(
        "(text, numbers, frame['a'].sum())",
        inputs={"text": "plain", "numbers": [1, 2], "frame": Csv("a\n1\n2\n")},
    )
    assert result.raise_for_status().result == ("plain", [1, 2], 3)


async def test_cut_output_says_how_much_is_missing(client: Client) -> None:
    limits = Limits(output_bytes=2000, result_bytes=2000)
    async with client.create_sandbox(limits=limits) as sandbox:
        result = await sandbox.execute("print('x' * 10_000)\nlist(range(100_000))")
    assert result.raw_stdout.truncated
    assert result.raw_stdout.total_bytes == 10_001
    assert "bytes left out" in result.stdout
    assert result.result_truncated
    assert is_cut(result.result)
    assert result.result.total_length == 100_000


async def test_debug_info_holds_what_was_recorded(client: Client) -> None:
    async with client.create_sandbox(enable_debugging=True) as sandbox:
        result = await sandbox.execute("debug('hello', 'INFO')\ninspect_var('x', [1, 2])")
    assert [(entry.level, entry.message, entry.line) for entry in result.debug_info.log] == [
        ("INFO", "hello", 1)
    ]
    (inspected,) = result.debug_info.variables
    assert (inspected.variable.name, inspected.variable.value) == ("x", [1, 2])
    assert "hello" in str(result.debug_info)
