"""Executions under way: their events, their ends by a call, and who has to wait."""

import asyncio

import pytest
from sandboxd_client import (
    Client,
    Finished,
    Logged,
    Sandbox,
    SandboxBusy,
    Started,
    Stderr,
    Stdout,
)


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
