"""`sandboxd top`: one look as JSON, and the screen in a real terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from sandboxd_client import Client

from tests.support.interruptible import heed_sigint
from tests.support.server_process import Server


def _environment(server: Server) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOXD_")}
    return clean | {"SANDBOXD_ADDRESS": server.tcp, "SANDBOXD_TOKEN": server.token, "TERM": "xterm"}


def _top(server: Server, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sandboxd", "top", *arguments],
        capture_output=True,
        text=True,
        env=_environment(server),
        timeout=60,
        check=False,
    )


async def test_one_look_as_json_has_sandboxes_executions_pool_and_limits(watched: Server) -> None:
    async with Client.connect(watched.tcp, token=watched.token) as client:
        ended = await client.quick_execute("while True: pass", timeout=0.2)
        assert not ended.completed
        async with client.create_sandbox(user_id="ann") as sandbox:
            await sandbox.execute("1")
            found = _top(watched, "--json")
    assert found.returncode == 0, found.stderr
    look = json.loads(found.stdout)
    assert look["active_sandboxes"] >= 1
    assert look["ready_guests"] >= 0
    assert look["limits_hit"]["execution_timeout"] >= 1
    assert look["phases"]["run"]["count"] >= 1
    mine = [item for item in look["sandboxes"] if item["id"] == sandbox.id]
    assert [(item["user_id"], item["executions"]) for item in mine] == [("ann", 1)]


def test_without_a_terminal_one_look_is_printed_and_the_command_ends(watched: Server) -> None:
    found = _top(watched)
    assert found.returncode == 0, found.stderr
    assert "ready guests" in found.stdout


def test_without_a_server_the_command_says_so(watched: Server) -> None:
    found = _top(watched, "--address", "127.0.0.1:1")
    assert found.returncode == 2
    assert "127.0.0.1:1" in found.stderr
    assert "Traceback" not in found.stderr


async def test_in_a_terminal_the_screen_is_drawn_again_until_ctrl_c(watched: Server) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sandboxd", "top", "--every", "0.2"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=_environment(watched) | {"COLUMNS": "120", "LINES": "40"},
        start_new_session=True,
        preexec_fn=heed_sigint,  # noqa: PLW1509  one thread runs
    )
    os.close(slave)
    try:
        shown = _read_until(master, lambda text: text.count("ready guests") >= 3)
        process.send_signal(signal.SIGINT)
        _read_until(master, lambda text: False, seconds=60)  # until the terminal is closed
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert "Traceback" not in shown


def _read_until(master: int, seen: object, *, seconds: float = 60) -> str:
    text = ""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.5)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the other end is closed
            break
        text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
        if callable(seen) and seen(text):
            break
    return text
