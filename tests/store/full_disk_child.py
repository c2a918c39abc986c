"""Fills the disk beneath an open store, frees it again, and says what happened; runs in a mount namespace."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import structlog

from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.journal import JournalLimits
from sandboxd.store.records import ExecutionState
from sandboxd.store.store import Store, StoreSettings, open_store
from tests.store.examples import KEEP_ALL, an_execution, an_outcome

REFUSALS = (StoreFull, StoreUnavailable)


async def fill(store: Store) -> tuple[list[str], dict[str, object]]:
    """Record until it is refused; what was acknowledged, and how the refusal looked."""
    done: list[str] = []
    slowest = 0.0
    running = an_execution()
    await store.executions.begin(running)
    for _ in range(100_000):
        record = an_execution()
        started = time.monotonic()
        try:
            await store.executions.begin(record)
            await store.executions.finish(record.id, an_outcome(stdout=os.urandom(20_000)))
        except REFUSALS as error:
            refusal = {"reason": error.reason, "retry": error.retry_after_seconds}
            break
        finally:
            slowest = max(slowest, time.monotonic() - started)
        done.append(record.id)
        await asyncio.sleep(0)
    else:
        raise AssertionError("the disk did not fill up")
    await store.executions.finish(running.id, an_outcome(stdout=b"x" * 1000))
    done.append(running.id)
    return done, {"refusal": refusal, "slowest": slowest}


async def recover(store: Store) -> float:
    started = time.monotonic()
    while True:
        try:
            record = an_execution()
            await store.executions.begin(record)
            await store.executions.finish(record.id, an_outcome())
            await store.flush()
        except REFUSALS:
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - started


async def main(directory: Path) -> None:
    limits = JournalLimits(segment_bytes=1 << 20, reserve_bytes=1 << 18)
    settings = StoreSettings(directory=directory / "store", retention=KEEP_ALL, journal=limits)
    ballast = directory / "ballast"
    ballast.write_bytes(b"\1" * (12 << 20))
    async with open_store(settings) as store:
        done, figures = await fill(store)
        ballast.unlink()
        figures["recovered_seconds"] = await recover(store)
        figures["set_aside"] = len(store.set_aside)
    async with open_store(settings) as store:
        states = {}
        token = ""
        while True:
            page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=500, page_token=token)
            states.update({e.id: e.state for e in page.executions})
            token = page.next_page_token
            if not token:
                break
        figures["acknowledged"] = len(done)
        figures["lost"] = sum(states.get(name) is not ExecutionState.SUCCEEDED for name in done)
    os.write(1, json.dumps(figures).encode())


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", sys.argv[1]], check=True)
    asyncio.run(main(Path(sys.argv[1])))
