"""A server that is stopped before it serves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.interruptible import heed_sigint
from tests.support.leftovers import wait_until
from tests.support.serving import children, is_zygote


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 1.2, 1.5])
def test_server_stopped_while_it_starts_ends_without_a_traceback(tmp_path: Path, seconds: float) -> None:
    # The zygote, which was just sending its first word, used to end with a BrokenPipeError on the terminal.
    process = _serve(tmp_path)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)  # ends when the zygote has ended too
    assert "Traceback" not in said


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6, 0.9])
def test_ctrl_c_in_a_terminal_does_not_reach_the_zygote(tmp_path: Path, seconds: float) -> None:
    # It used to end with a KeyboardInterrupt on the terminal while it loaded packages.
    process = _serve(tmp_path)
    wait_until(lambda: any(map(is_zygote, children(process.pid))), seconds=20, what="the zygote starts")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert "Traceback" not in said


def _serve(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sandboxd", "serve"],
        env={"SANDBOXD_PORT": "0", "SANDBOXD_DATA_DIRECTORY": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        preexec_fn=heed_sigint,  # noqa: PLW1509  one thread runs
    )
