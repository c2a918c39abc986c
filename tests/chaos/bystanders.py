"""Processes that have nothing to do with the server and come and go beside it; writes how many of them
were ended by a signal. Run in the server's own pid namespace, where process ids are soon used again."""

import os
import random
import sys
import time
from pathlib import Path

_AT_ONCE = 60


def main() -> None:
    """Runs until it is killed."""
    report = Path(sys.argv[1])
    fresh = report.with_suffix(".new")
    seen = signalled = 0
    living: set[int] = set()
    while True:
        while len(living) < _AT_ONCE:
            child = os.fork()
            if child == 0:
                time.sleep(random.uniform(0.05, 0.5))
                os._exit(0)
            living.add(child)
        pid, status = os.wait()
        living.discard(pid)
        seen += 1
        signalled += os.WIFSIGNALED(status)
        fresh.write_text(f"{seen} {signalled}")
        fresh.replace(report)


main()
