"""A crowd of callers as a process of its own: 10,000 executions at once; prints what became of them.

Beside it one caller asks for what is refused, one call after another, and looks at a sandbox in between:
what a look takes is what the machine takes from everyone.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from typing import Any

from sandboxd_client import (
    Client,
    DeadlineExceeded,
    Exhausted,
    Limits,
    QueueFull,
    Retry,
    Sandbox,
    SandboxdError,
    Unreachable,
)

_REQUESTS = 10_000
_CONNECTIONS = 64
_USERS = 16
_SANDBOXES = 128
_CODE = "import time\ntime.sleep(0.01)\n{number} * 3"
_WAITING_IN_SANDBOX = 16


async def _crowd(address: str, token: str) -> dict[str, Any]:
    once = Retry(attempts=1)
    clients = [Client.connect(address, token=token, retry=once) for _ in range(_CONNECTIONS)]
    users = [f"user-{number % _USERS}" for number in range(_SANDBOXES)]
    sandboxes = [
        await clients[number % _CONNECTIONS].create_sandbox(user_id=user) for number, user in enumerate(users)
    ]
    over = asyncio.Event()
    full = asyncio.Event()
    beside = asyncio.create_task(_be_refused(address, token, full, over))
    await full.wait()
    answers: Counter[str] = Counter()
    ran: Counter[str] = Counter()
    waiting = 0

    async def one(number: int) -> None:
        place = number % _SANDBOXES
        kind = await _ask(sandboxes[place], number)
        answers[kind] += 1
        ran[users[place]] += kind == "right"

    async def watch() -> None:
        nonlocal waiting
        while not over.is_set():
            with contextlib.suppress(Unreachable, DeadlineExceeded):
                found = await clients[0].statistics()
                waiting = max(waiting, found.queued_execution_count)
            await asyncio.sleep(0.2)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(one(number) for number in range(_REQUESTS)))
    over.set()
    await watcher
    figures = await beside
    for sandbox in sandboxes:
        await sandbox.delete()
    for client in clients:
        await client.close()
    strange = {
        kind: count for kind, count in answers.items() if kind not in ("right", "refused", "turned away")
    }
    return figures | {
        "asked": _REQUESTS,
        "right": answers["right"],
        "refused": answers["refused"],
        "turned_away": answers["turned away"],
        "strange": strange,
        "waiting": waiting,
        "best_over_worst": max(ran.values()) / max(1, min(ran[user] for user in set(users))),
    }


async def _ask(sandbox: Sandbox, number: int) -> str:
    try:
        result = await sandbox.execute(_CODE.format(number=number))
    except Exhausted:
        return "refused"
    except Unreachable:  # REFUSED_STREAM: gRPC's own bound on calls that nobody has taken up yet
        return "turned away"
    except SandboxdError as error:
        return f"{type(error).__name__}: {error}"
    return "right" if result.result == number * 3 else f"{result.status}: {result.error}"


async def _be_refused(address: str, token: str, full: asyncio.Event, over: asyncio.Event) -> dict[str, float]:
    """Fills one sandbox and goes on asking."""
    refused, looks = [], []
    async with Client.connect(address, token=token, retry=Retry(attempts=1)) as client:
        async with client.create_sandbox(user_id="refused", limits=Limits(execution_timeout=300)) as sandbox:
            hold = "import time\nwhile True: time.sleep(0.05)"
            count = _WAITING_IN_SANDBOX + 1
            held = [asyncio.create_task(sandbox.execute(hold)) for _ in range(count)]
            while (await sandbox.refresh()).queued_execution_count < _WAITING_IN_SANDBOX:
                await asyncio.sleep(0.01)
            full.set()
            while not over.is_set():
                asked = time.perf_counter()
                with contextlib.suppress(Unreachable, DeadlineExceeded):
                    try:
                        await sandbox.execute("1")
                    except QueueFull:
                        refused.append(time.perf_counter() - asked)
                    asked = time.perf_counter()
                    await sandbox.refresh()
                    looks.append(time.perf_counter() - asked)
                await asyncio.sleep(0.02)
        await asyncio.gather(*held, return_exceptions=True)
    return {"refused_p99_ms": _p99(refused) * 1000, "look_p99_ms": _p99(looks) * 1000}


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_crowd(sys.argv[1], os.environ["SANDBOXD_TOKEN"]))))
