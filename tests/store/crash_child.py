"""A process that records executions and says of each, once it is acknowledged, on a pipe; it is killed."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import structlog

from sandboxd.store.store import StoreSettings, open_store
from tests.store.examples import KEEP_ALL, a_query, a_sandbox, an_execution, an_outcome


def acknowledge(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def work(store_directory: Path, url: str, prefix: str) -> None:
    settings = StoreSettings(directory=store_directory, url=url, retention=KEEP_ALL)
    async with open_store(settings) as store:
        acknowledge("ready")
        limit = asyncio.Semaphore(20)

        async def one(number: int) -> None:
            async with limit:
                name = f"{prefix}_{number:06d}"
                record = replace(an_execution(), id=name, request_id=f"req_{name}", request_fingerprint=b"f")
                if number % 10 == 0:
                    sandbox = replace(a_sandbox(), id=f"sbx_{name}")
                    await store.sandboxes.create(sandbox)
                    acknowledge(f"sandbox {sandbox.id}")
                await store.executions.begin(record)
                acknowledge(f"begun {name}")
                await asyncio.sleep(0.0005 * (number % 7))
                await store.executions.finish(name, an_outcome(stdout=name.encode() * (1 + number % 200)))
                acknowledge(f"finished {name}")
                await store.queries.record(replace(a_query(), id=f"qry_{name}"))
                acknowledge(f"query qry_{name}")

        number = 0
        pending: set[asyncio.Task[None]] = set()
        while True:
            for _ in range(20):
                pending.add(asyncio.create_task(one(number)))
                number += 1
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
