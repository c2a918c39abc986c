"""The client end to end, against a real server process."""

import asyncio
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sandboxd_client import (
    Array,
    CheckpointPolicy,
    Client,
    Csv,
    Description,
    ExecutionFailed,
    Finished,
    InvalidArgument,
    LanguagePolicy,
    Limits,
    Logged,
    Sandbox,
    SandboxBusy,
    SandboxNotFound,
    Series,
    Started,
    Stderr,
    Stdout,
    Table,
    Unauthenticated,
    is_cut,
)

from tests.support.server_process import Server


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


async def test_language_rules_can_be_chosen(client: Client) -> None:
    async with client.create_sandbox(language_policy="unrestricted") as free:
        assert (await free.execute("import sys\nsys.version_info[0]")).result == 3
    policy = LanguagePolicy(allowed_modules=["json"])
    async with client.create_sandbox(language_policy=policy) as narrow:
        assert (await narrow.execute("import json")).completed
        assert (await narrow.execute("import math")).status == "failed"


async def test_timeout_ends_the_code_and_keeps_the_session(sandbox: Sandbox) -> None:
    await sandbox.execute("kept = 1")
    result = await sandbox.execute("print('started', flush=True)\nwhile True: pass", timeout=0.5)
    assert result.status == "timed_out"
    assert result.stdout == "started\n"
    assert result.limit_receipt is not None
    assert result.limit_receipt.limit == "execution_timeout"
    assert result.limit_receipt.limit_value == 500
    assert (await sandbox.execute("kept")).result == 1


async def test_limit_above_the_most_is_refused_by_name(client: Client) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await client.create_sandbox(limits=Limits(memory_bytes=1 << 50))
    assert caught.value.field.endswith("limits.memory_bytes")
    assert str(1 << 50) in str(caught.value)


async def test_output_and_log_stream_while_they_appear(client: Client) -> None:
    code = """
print("one")
debug("halfway", "WARNING")
import warnings
print("€ two")
raise ValueError("end")
"""
    async with client.create_sandbox(enable_debugging=True) as sandbox:
        events = [event async for event in sandbox.stream(code)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert any(isinstance(event, Started) for event in events)
    assert "".join(event.text for event in events if isinstance(event, Stdout)) == "one\n€ two\n"
    assert [event.entry.message for event in events if isinstance(event, Logged)] == ["halfway"]
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.result.status == "failed"


async def test_stream_tells_output_before_the_code_has_ended(sandbox: Sandbox) -> None:
    code = "import time\nprint('now', flush=True)\ntime.sleep(20)"
    stream = sandbox.stream(code)
    async for event in stream:
        if isinstance(event, Stdout):
            break
    result = await sandbox.cancel()
    assert result is not None
    assert result.status == "cancelled"


async def test_stderr_is_kept_apart(sandbox: Sandbox) -> None:
    code = "import warnings\nwarnings.warn('careful')\nprint('out')"
    events = [event async for event in sandbox.stream(code)]
    assert "careful" in "".join(event.text for event in events if isinstance(event, Stderr))
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.result.stdout == "out\n"
    assert "careful" in last.result.stderr


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


async def test_variables_of_the_session_are_told(sandbox: Sandbox) -> None:
    await sandbox.execute("import pandas as pd\nn = 3\nframe = pd.DataFrame({'a': [1]})")
    state = await sandbox.state()
    assert state["n"].value == 3
    assert state["frame"].type_name.endswith("DataFrame")
    assert "n" in state
    assert state.sandbox.id == sandbox.id


async def test_quick_execute_needs_no_sandbox(client: Client) -> None:
    result = await client.quick_execute("print('hi')\n1 + 1")
    assert (result.result, result.stdout, result.session.state) == (2, "hi\n", "ended")


@pytest.mark.parametrize(
    "data", ["a,b\n1,2\n3,4\n", [{"a": 1, "b": 2}, {"a": 3, "b": 4}]], ids=["csv", "json"]
)
async def test_data_is_analyzed_by_name(client: Client, data: object) -> None:
    result = (await client.analyze_data(data, "summary")).raise_for_status()
    assert isinstance(result.result, dict)
    assert result.result


async def test_data_frame_is_analyzed_by_code(client: Client) -> None:
    import pandas

    frame = pandas.DataFrame({"a": [1, 2, 3]})
    result = await client.analyze_data(frame, code="int(data['a'].sum())")
    assert result.raise_for_status().result == 6


async def test_cancel_of_a_running_execution_returns_how_it_ended(client: Client, sandbox: Sandbox) -> None:
    running = asyncio.create_task(sandbox.execute("import asyncio\nawait asyncio.sleep(60)"))
    while not (found := (await sandbox.refresh()).running_execution_id):
        await asyncio.sleep(0.01)
    assert (await client.cancel(found)).status == "cancelled"
    assert (await running).status == "cancelled"
    assert (await sandbox.cancel()) is None


async def test_cancelled_task_cancels_the_execution(client: Client, sandbox: Sandbox) -> None:
    running = asyncio.create_task(sandbox.execute("while True: pass"))
    while not (found := (await sandbox.refresh()).running_execution_id):
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    ended = await client.get_execution(found, wait=10)
    assert ended.status == "cancelled"


async def test_detached_execution_is_watched_to_its_end(client: Client, sandbox: Sandbox) -> None:
    code = "import time\nprint('a', flush=True)\ntime.sleep(0.3)\nprint('b')\n7"
    async for event in sandbox.stream(code, on_disconnect="detach"):
        if isinstance(event, Stdout):
            break
    events = [found async for found in client.watch(event.execution_id, after_sequence=event.sequence)]
    assert events[0].sequence == event.sequence + 1
    assert "".join(found.text for found in events if isinstance(found, Stdout)) == "b\n"
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.result.result == 7


async def test_busy_sandbox_refuses_where_it_is_asked_to(sandbox: Sandbox) -> None:
    running = asyncio.create_task(sandbox.execute("import asyncio\nawait asyncio.sleep(60)"))
    while not (await sandbox.refresh()).running_execution_id:
        await asyncio.sleep(0.01)
    with pytest.raises(SandboxBusy):
        await sandbox.execute("1", if_busy="refuse")
    await sandbox.cancel()
    await running


async def test_history_is_newest_first(client: Client, sandbox: Sandbox) -> None:
    for code in ("1", "1 / 0", "3"):
        await sandbox.execute(code)
    history = await sandbox.history()
    assert [(item.number, item.status) for item in history] == [
        (3, "completed"),
        (2, "failed"),
        (1, "completed"),
    ]
    failed = await sandbox.history(statuses=["failed"], full=True)
    assert [item.code for item in failed] == ["1 / 0"]
    assert (await client.get_execution(history[0].id)).code == "3"
    assert [item.id for item in await sandbox.history(limit=2)] == [item.id for item in history[:2]]


async def test_statistics_count_what_ended(client: Client, sandbox: Sandbox) -> None:
    before = await client.statistics()
    await sandbox.execute("1")
    after = await client.statistics()
    assert after.active_sandbox_count >= 1
    assert after.finished_execution_count == before.finished_execution_count + 1
    assert 0 <= after.success_percent <= 100


async def test_capabilities_tell_isolation_limits_and_versions(client: Client) -> None:
    found = await client.capabilities()
    assert found.isolation_grade in ("full", "no_cgroup", "no_namespaces")
    assert {layer.state for layer in found.isolation_layers} <= {"active", "partial", "missing"}
    assert found.default_limits.execution_timeout == timedelta(seconds=30)
    assert found.versions["python"].startswith("3.")


async def test_examples_run_as_they_are(client: Client) -> None:
    examples = await client.examples()
    assert examples
    for example in examples:
        if not example.requires_database:
            (await client.quick_execute(example.code)).raise_for_status()


async def test_functions_of_the_guest_are_described(client: Client) -> None:
    api = await client.functions()
    names = {function.name for function in api.functions}
    assert {"debug", "inspect_var", "get_debug_info", "db_query"} <= names
    assert "json" in api.allowed_modules
    assert "eval" in api.blocked_builtins


async def test_context_deletes_the_sandbox(client: Client) -> None:
    async with client.create_sandbox() as sandbox:
        pass
    assert sandbox.info.state == "deleted"
    with pytest.raises(SandboxNotFound):
        await sandbox.execute("1")


async def test_sandbox_is_found_again_by_its_id(client: Client, sandbox: Sandbox) -> None:
    await sandbox.execute("x = 5")
    again = await client.get_sandbox(sandbox.id)
    assert (await again.execute("x")).result == 5
    assert sandbox.id in [item.id for item in await client.list_sandboxes()]


async def test_call_without_a_valid_token_is_refused(server: Server) -> None:
    async with Client.connect(server.tcp, token="sbt_wrong") as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.capabilities()


async def test_token_beside_the_unix_socket_is_found(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SANDBOXD_TOKEN", "SANDBOXD_TOKEN_FILE", "SANDBOXD_DATA_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    async with Client.connect(server.unix) as client:
        assert (await client.quick_execute("1 + 1")).result == 2


async def test_checkpoints_switched_off_are_told_beforehand(client: Client) -> None:
    policy = CheckpointPolicy(enabled=False)
    async with client.create_sandbox(checkpoints=policy) as sandbox:
        assert not sandbox.info.checkpoint.taken
