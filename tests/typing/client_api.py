"""Never run: what a type checker must see in the client's interface."""

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from sandboxd_client import (
    Best,
    Checkpoint,
    Client,
    Event,
    Execution,
    ExecutionResult,
    Finished,
    Limits,
    QueryResult,
    Sandbox,
    SandboxService,
    SandboxState,
    Stdout,
    sync,
)


async def async_client() -> None:
    async with Client.connect("127.0.0.1:1") as client:
        assert_type(client, Client)
        sandbox = await client.create_sandbox(limits=Limits(execution_timeout=1.5), enable_debugging=True)
        assert_type(sandbox, Sandbox)
        async with client.create_sandbox(language_policy="unrestricted", user_id=7) as other:
            assert_type(other, Sandbox)
        assert_type(await sandbox.execute("1", timeout=2.0, if_busy="refuse"), ExecutionResult)
        assert_type(sandbox.stream("1"), AsyncIterator[Event])
        assert_type(await sandbox.state(), SandboxState)
        assert_type(await sandbox.history(), list[Execution])
        assert_type(await sandbox.checkpoint("x"), Checkpoint)
        assert_type(await sandbox.best_of(["1"], score=lambda result: len(result.stdout)), Best)
        assert_type(await sandbox.query("SELECT 1", {"a": 1}), QueryResult)
        async with sandbox.branch() as branch:
            assert_type(branch, Sandbox)
        assert_type(await sandbox.branch(), Sandbox)
        async for event in sandbox.stream("1"):
            match event:
                case Stdout(text=text):
                    assert_type(text, str)
                case Finished(result=result):
                    assert_type(result, ExecutionResult)
        await sandbox.execute("1", no_such_option=1)  # type: ignore[call-arg] # options are known
        await client.create_sandbox(limits=5)  # type: ignore[arg-type] # limits are Limits


def blocking_client() -> None:
    with sync.Client.connect() as client:
        assert_type(client, sync.Client)
        with client.create_sandbox(enable_debugging=True) as sandbox:
            assert_type(sandbox, sync.Sandbox)
            assert_type(sandbox.execute("1", timeout=2.0), ExecutionResult)
            assert_type(sandbox.stream("1"), Iterator[Event])
            assert_type(sandbox.branches(2), list[sync.Sandbox])
            sandbox.execute("1", no_such_option=1)  # type: ignore[call-arg] # options are known
        assert_type(client.quick_execute("1"), ExecutionResult)


async def service_object() -> None:
    async with await SandboxService.connect() as service:
        sandbox_id = await service.create_agent_sandbox(user_id=1, config={"max_execution_time": 30})
        assert_type(sandbox_id, str)
        assert_type(await service.execute_code(sandbox_id, "1"), ExecutionResult)
        assert_type(await service.create_processor_template(sandbox_id, "data_processor"), str)
