"""The client end to end: sandboxes, single runs, history, and what a server tells of itself."""

from datetime import timedelta

import pytest
from sandboxd_client import (
    CheckpointPolicy,
    Client,
    InvalidArgument,
    LanguagePolicy,
    Limits,
    Sandbox,
    SandboxNotFound,
    Unauthenticated,
)

from tests.support.server_process import Server


async def test_language_rules_can_be_chosen(client: Client) -> None:
    async with client.create_sandbox(language_policy="unrestricted") as free:
        assert (await free.execute("import sys\nsys.version_info[0]")).result == 3
    policy = LanguagePolicy(allowed_modules=["json"])
    async with client.create_sandbox(language_policy=policy) as narrow:
        assert (await narrow.execute("import json")).completed
        assert (await narrow.execute("import math")).status == "failed"


async def test_limit_above_the_most_is_refused_by_name(client: Client) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await client.create_sandbox(limits=Limits(memory_bytes=1 << 50))
    assert caught.value.field.endswith("limits.memory_bytes")
    assert str(1 << 50) in str(caught.value)


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
