"""A server that is stopped before it serves."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 1.2, 1.5])
def test_server_stopped_while_it_starts_ends_without_a_traceback(tmp_path: Path, seconds: float) -> None:
    # The zygote, which was just sending its first word, used to end with a BrokenPipeError on the terminal.
    process = subprocess.Popen(
        [sys.executable, "-m", "sandboxd", "serve"],
        env={"SANDBOXD_PORT": "0", "SANDBOXD_DATA_DIRECTORY": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)  # ends when the zygote has ended too
    assert "Traceback" not in said
    assert process.returncode in (0, -signal.SIGTERM)
