"""The blocking face does what the async client does."""

import threading

import pytest
from sandboxd_client import Finished, SandboxNotFound, Stdout
from sandboxd_client.sync import Client

from tests.support.server_process import Server


def test_program_without_an_event_loop_runs_code(server: Server) -> None:
    with Client.connect(server.tcp, token=server.token) as client, client.create_sandbox() as sandbox:
        sandbox.execute("x = 41")
        assert sandbox.execute("x + 1").result == 42
        assert sandbox.state()["x"].value == 41
        events = list(sandbox.stream("print('hi')"))
        assert [event.text for event in events if isinstance(event, Stdout)] == ["hi\n"]
        assert isinstance(events[-1], Finished)
        assert client.get_sandbox(sandbox.id).id == sandbox.id
    assert sandbox.info.state == "deleted"


def test_errors_are_raised_in_the_calling_thread(server: Server) -> None:
    with Client.connect(server.tcp, token=server.token) as client:
        with pytest.raises(SandboxNotFound):
            client.get_sandbox("sbx_aaaaaaaaaaaaaaaaaaaaaaaaaa")


def test_one_client_serves_many_threads(server: Server) -> None:
    results: list[object] = []
    with Client.connect(server.tcp, token=server.token) as client:

        def work(number: int) -> None:
            results.append(client.quick_execute(f"{number} * 2").result)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results, key=str) == sorted((number * 2 for number in range(8)), key=str)


def test_abandoned_stream_is_closed(server: Server) -> None:
    with Client.connect(server.tcp, token=server.token) as client, client.create_sandbox() as sandbox:
        for event in sandbox.stream("print('a', flush=True)\nimport time\ntime.sleep(60)"):
            if isinstance(event, Stdout):
                break
        found = client.get_execution(event.execution_id, wait=10)
        assert found.status == "cancelled"
