"""A mixed load: what clients do all day, and hostile programs that die in every way they can."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sandboxd_client import Client, Limits, SandboxdError

WORKERS = 3

_HOSTILE = (
    "import os; os._exit(1)",
    "import ctypes; ctypes.string_at(0)",
    "blocks = []\nwhile True: blocks.append(bytearray(8 << 20))",
    "import os; os.close(3)\nimport time; time.sleep(9)",
    "import os\nwhile True: os.write(1, bytes(65536))",
    "import threading as t\nfor _ in range(50): t.Thread(target=t.Event().wait, daemon=True).start()",
    "for n in range(50):\n    with open(f'/workspace/{n}', 'wb') as f: f.write(bytes(1 << 20))",
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: break",
    "while True: pass",
    "import socket; socket.create_connection(('10.0.0.1', 80), 1)",
    "raise RecursionError('x' * 10_000_000)",
)


@dataclass(slots=True)
class Tally:
    """What was done and how long the plain executions took."""

    started: float = field(default_factory=time.monotonic)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and what an execution in a live session took."""


async def _session(client: Client, tally: Tally) -> None:
    async with client.create_sandbox(user_id="soak") as sandbox:
        for number in range(20):
            asked = time.monotonic()
            result = await sandbox.execute(f"x = {number}\nx * 2")
            tally.latencies.append((asked - tally.started, time.monotonic() - asked))
            if result.result != number * 2:
                tally.wrong.append(f"session: {result.status} {result.error}")


async def _single(client: Client, tally: Tally) -> None:
    result = await client.quick_execute("import pandas as pd\nint(pd.Series(range(100)).sum())")
    if result.result != 4950:
        tally.wrong.append(f"single: {result.status} {result.error}")


async def _debug(client: Client, tally: Tally) -> None:
    async with client.create_sandbox(user_id="soak", enable_debugging=True) as sandbox:
        steps = 0
        async for _ in sandbox.debug("total = 0\nfor n in range(30):\n    total += n\n"):
            steps += 1
        if steps < 30:
            tally.wrong.append(f"debug: {steps} steps")


async def _query(client: Client, tally: Tally) -> None:
    async with client.create_sandbox(user_id="soak") as sandbox:
        result = await sandbox.execute("rows = await db_query('SELECT * FROM users LIMIT 5')\nlen(rows)")
        if result.result != 5:
            tally.wrong.append(f"query: {result.status} {result.error}")


async def _branch(client: Client, tally: Tally) -> None:
    async with client.create_sandbox(user_id="soak") as sandbox:
        await sandbox.execute("state = list(range(1000))")
        for branch in await sandbox.branches(2):
            async with branch:
                if (await branch.execute("state.append(1)\nlen(state)")).result != 1001:
                    tally.wrong.append("branch: another state")


async def _hostile(client: Client, tally: Tally) -> None:
    limits = Limits(execution_timeout=2)
    async with client.create_sandbox(
        user_id="soak", limits=limits, language_policy="unrestricted"
    ) as sandbox:
        await sandbox.execute(random.choice(_HOSTILE))
        result = await sandbox.execute("6 * 7")
        if result.result != 42:
            tally.wrong.append(f"after a hostile program: {result.status} {result.error}")


_MIX: tuple[tuple[str, Callable[[Client, Tally], Awaitable[None]], int], ...] = (
    ("session", _session, 4),
    ("single", _single, 6),
    ("debug", _debug, 2),
    ("query", _query, 3),
    ("branch", _branch, 1),
    ("hostile", _hostile, 2),
)


async def load(address: str, token: str, seconds: float, tally: Tally) -> None:
    """Works the server for so long."""
    async with Client.connect(address, token=token) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(_worker(client, tally, seconds))


async def once_of_each(address: str, token: str) -> None:
    """What is made once, such as connections and workers, is there from now on."""
    tally = Tally()
    async with Client.connect(address, token=token) as client:
        await asyncio.gather(*(work(client, tally) for _, work, _ in _MIX for _ in range(WORKERS)))


async def _worker(client: Client, tally: Tally, seconds: float) -> None:
    names = [name for name, _, weight in _MIX for _ in range(weight)]
    kinds = {name: work for name, work, _ in _MIX}
    while time.monotonic() - tally.started < seconds:
        name = random.choice(names)
        try:
            await kinds[name](client, tally)
        except SandboxdError as error:
            tally.wrong.append(f"{name}: {type(error).__name__}: {error}")
        tally.done[name] += 1
