"""A client whose server is killed and started again: nothing runs twice, nothing unknown is claimed."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from sandboxd_client import Client, Retry, SandboxNotFound, Stdout

from tests.support.server_process import server_process

_PATIENT = Retry(attempts=200, first_delay=0.1, max_delay=0.5, budget=80.0)


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


async def test_execution_cut_off_by_a_killed_server_is_told_as_unknown(tmp_path: Path) -> None:
    port = _free_port()
    with server_process(tmp_path, "--port", port) as server:
        client = Client.connect(server.tcp, token=server.token, retry=_PATIENT)
        sandbox = await client.create_sandbox()
        done = await sandbox.execute("x = 1")
        running = asyncio.create_task(sandbox.execute("import time\ntime.sleep(60)"))
        while not (await sandbox.refresh()).running_execution_id:
            await asyncio.sleep(0.01)
        os.kill(server.pid, signal.SIGKILL)
    with server_process(tmp_path, "--port", port):
        result = await running  # asked again with the same request id, by itself
        assert result.status == "aborted"
        assert result.error is not None
        assert result.error.kind == "outcome_unknown"
        kept = await client.get_execution(done.execution_id)
        assert kept.status == "completed"
        assert [item.status for item in await client.history()] == ["aborted", "completed"]
        with pytest.raises(SandboxNotFound):
            await sandbox.execute("x")
        await client.close()


async def test_stream_cut_off_by_a_killed_server_ends_with_the_truth(tmp_path: Path) -> None:
    port = _free_port()
    with server_process(tmp_path, "--port", port) as server:
        client = Client.connect(server.tcp, token=server.token, retry=_PATIENT)
        sandbox = await client.create_sandbox()
        stream = sandbox.stream("import time\nprint('here', flush=True)\ntime.sleep(60)")
        async for event in stream:
            if isinstance(event, Stdout):
                break
        os.kill(server.pid, signal.SIGKILL)
    with server_process(tmp_path, "--port", port):
        rest = [event async for event in stream]
        assert rest[-1].result.status == "aborted"  # type: ignore[union-attr] # the last one is Finished
        await client.close()
