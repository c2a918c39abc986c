"""Control runs: the same attack in a plain Python process, where nothing holds it."""

import subprocess
import sys

_SECONDS = 30


def unconfined(code: str, *, seconds: float = _SECONDS) -> str:
    """What `code` prints as an ordinary process; a security test means nothing if this shows no harm."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={"LANG": "C.UTF-8"},
    )
    assert done.returncode == 0, f"the control run failed: {done.stderr[-1000:]}"
    return done.stdout.strip()


def unconfined_status(code: str, *, seconds: float = _SECONDS) -> int:
    """How an ordinary process that runs `code` ends: an exit code, or minus the signal."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    return done.returncode
