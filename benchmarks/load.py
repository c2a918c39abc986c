"""Does a full queue lose, hang or favour anyone, and how soon is who can't be let in told so?

A server with few slots runs in a process of its own, and so does each of two callers. The first is 128
clients of 16 users, one of whom has a quarter of the clients; each client has a connection and a sandbox
of its own, and every user has the same number of executions to get done. The second caller sends more
into one sandbox than may wait there, one call after another, and measures how soon it is refused; after
each such call it looks the sandbox up, which is about the least a call can do: what that takes is what the
machine takes from everyone.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandboxd_client import Client, Execution, ExecutionResult, Limits, QueueFull, Sandbox, SandboxdError
from sandboxd_client.transport import Retry

from tests.support.server_process import Server, server_process

CLIENTS = 128
USERS = 16
_GREEDY_CLIENTS = 32
_SLOTS = 8
_WAITING_IN_SANDBOX = 2
_HANG_SECONDS = 120.0
_CODE = "import time\ntime.sleep({seconds})\n{number} * 3 + 1"
_SECONDS = (0.0, 0.005, 0.02)
"""How long executions sleep in turn; asleep, an execution holds its slot without the machine's cores."""
_HOLD_SECONDS = 300.0
_HOLD_CODE = "import time\nwhile True:\n    time.sleep(0.05)"
_REFUSALS_A_SECOND = 20.0

FAIRNESS_BAR = 3.0
REFUSED_P99_BAR_SECONDS = 0.05
_REFUSED_BAR_IN_LOOKS = 2.0
"""On a machine so busy that a mere look takes longer than the bar, a refusal may take this many looks."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the clients saw."""

    asked: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    hung: int = 0
    latencies: list[float] = field(default_factory=list)
    done_at: dict[str, float] = field(default_factory=dict)
    """Seconds from the start until a user's executions were all done."""
    half_way: Counter[str] = field(default_factory=Counter)
    """Executions done by user when half of all were."""


# --- the clients ---------------------------------------------------------------------------------


async def _load(address: str, token: str, executions: int) -> dict[str, Any]:
    clients = [Client.connect(address, token=token) for _ in range(CLIENTS)]
    try:
        users = [_user_of(index) for index in range(CLIENTS)]
        sandboxes = []
        for client, user in zip(clients, users, strict=True):
            sandboxes.append(await client.create_sandbox(user_id=user))
        tally, left = Tally(), Counter({f"user-{number}": executions // USERS for number in range(USERS)})
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for sandbox, user in zip(sandboxes, users, strict=True):
                group.create_task(_one_client(sandbox, user, tally, left, started))
        seconds = time.perf_counter() - started
        lost = await _lost(clients[0], tally)
    finally:
        for client in clients:
            await client.close()
    return _summary(tally, seconds=seconds, lost=lost)


def _user_of(index: int) -> str:
    """The first user has `_GREEDY_CLIENTS` clients, the others share the rest."""
    return "user-0" if index < _GREEDY_CLIENTS else f"user-{1 + index % (USERS - 1)}"


async def _one_client(sandbox: Sandbox, user: str, tally: Tally, left: Counter[str], started: float) -> None:
    total = sum(left.values())
    while left[user] > 0:
        left[user] -= 1
        number = tally.asked
        tally.asked += 1
        code = _CODE.format(seconds=_SECONDS[number % len(_SECONDS)], number=number)
        asked = time.perf_counter()
        try:
            async with asyncio.timeout(_HANG_SECONDS):
                result = await sandbox.execute(code)
        except TimeoutError:
            tally.hung += 1
            continue
        except SandboxdError as error:
            tally.wrong.append(f"{type(error).__name__}: {error}")
            continue
        tally.latencies.append(time.perf_counter() - asked)
        _judge(tally, number, result)
        if tally.right <= total // 2:
            tally.half_way[user] += 1
        tally.done_at[user] = time.perf_counter() - started


def _judge(tally: Tally, number: int, result: ExecutionResult) -> None:
    if result.completed and result.result == number * 3 + 1:
        tally.right += 1
    else:
        tally.wrong.append(f"execution {number}: {result.status} {result.error}")


async def _lost(client: Client, tally: Tally) -> int:
    """How many of the executions that were answered are not in the server's history as such."""
    kept: Sequence[Execution] = await client.history(limit=tally.asked + 10_000)
    values = [item for item in kept if item.user_id.startswith("user-") and item.status == "completed"]
    return max(0, tally.right - len({item.id for item in values}))


def _summary(tally: Tally, *, seconds: float, lost: int) -> dict[str, Any]:
    times = sorted(tally.latencies)
    shares = [tally.half_way[f"user-{number}"] for number in range(USERS)]
    return {
        "executions": tally.asked,
        "right": tally.right,
        "wrong": tally.wrong[:10],
        "hung": tally.hung,
        "lost": lost,
        "seconds": round(seconds, 2),
        "executions_per_second": round(tally.right / seconds, 1),
        "p50_ms": round(_percentile(times, 50) * 1000, 1),
        "p99_ms": round(_percentile(times, 99) * 1000, 1),
        "fairness_half_way": round(max(shares) / max(1, min(shares)), 2),
        "fairness_end": round(max(tally.done_at.values()) / min(tally.done_at.values()), 2),
    }


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")


# --- the caller that is refused ------------------------------------------------------------------


async def _be_refused(address: str, token: str) -> dict[str, Any]:
    """Fills one sandbox and goes on asking until standard input is closed."""
    times: list[float] = []
    control: list[float] = []
    others: list[str] = []
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with Client.connect(address, token=token, retry=Retry(attempts=1)) as client:
        limits = Limits(execution_timeout=_HOLD_SECONDS)
        async with client.create_sandbox(user_id="refused", limits=limits) as sandbox:
            full = [asyncio.create_task(sandbox.execute(_HOLD_CODE)) for _ in range(_WAITING_IN_SANDBOX + 1)]
            while (await sandbox.refresh()).queued_execution_count < _WAITING_IN_SANDBOX:
                if any(task.done() for task in full):
                    raise RuntimeError(f"the sandbox could not be filled: {full}")
                await asyncio.sleep(0.01)
            print(json.dumps({"ready": True}), flush=True)
            while not end.done():
                asked = time.perf_counter()
                try:
                    await sandbox.execute("1")
                except QueueFull:
                    times.append(time.perf_counter() - asked)
                except SandboxdError as error:
                    others.append(str(error))
                else:
                    others.append("was let in")
                asked = time.perf_counter()
                await sandbox.refresh()
                control.append(time.perf_counter() - asked)
                await asyncio.sleep(1 / _REFUSALS_A_SECOND)
        await asyncio.gather(*full, return_exceptions=True)
    times.sort()
    control.sort()
    return {
        "refused": len(times),
        "refused_otherwise": others[:5],
        "refused_p50_ms": round(_percentile(times, 50) * 1000, 2),
        "refused_p99_ms": round(_percentile(times, 99) * 1000, 2),
        "look_p50_ms": round(_percentile(control, 50) * 1000, 2),
        "look_p99_ms": round(_percentile(control, 99) * 1000, 2),
    }


# --- the whole -----------------------------------------------------------------------------------


def measure(executions: int) -> dict[str, Any]:
    """Server, load and refused caller, each a process."""
    with (
        tempfile.TemporaryDirectory(prefix="sandboxd-load-") as directory,
        _server(Path(directory)) as server,
    ):
        refused = _caller("refused", server.tcp, server.token, "0")
        assert refused.stdout is not None
        assert refused.stdin is not None
        assert json.loads(refused.stdout.readline())["ready"]
        load = _caller("load", server.tcp, server.token, str(executions))
        assert load.stdout is not None
        found: dict[str, Any] = json.loads(load.stdout.read())
        load.wait()
        refused.stdin.close()
        found |= json.loads(refused.stdout.read())
        refused.wait()
    return {"machine": _machine(), "clients": CLIENTS, "users": USERS, "slots": _SLOTS} | found


def _server(directory: Path) -> AbstractContextManager[Server]:
    return server_process(
        directory,
        log_level="warning",
        max_parallel_executions=str(_SLOTS + 1),  # the refused caller holds one throughout
        max_queued_per_sandbox=str(_WAITING_IN_SANDBOX),
        quotas__cpu_seconds_per_minute="6000",
    )


def _caller(role: str, address: str, token: str, executions: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, "--role", role, "--address", address, "--executions", executions],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"SANDBOXD_TOKEN": token},
    )


def _machine() -> str:
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load average {load:.1f} at the end"


def check(found: dict[str, Any]) -> list[str]:
    """The bars that are missed."""
    missed = [f"{name}: {found[name]}; the bar is none" for name in ("hung", "lost", "wrong") if found[name]]
    if found["right"] != found["executions"]:
        missed.append(f"{found['right']} of {found['executions']} executions came back right")
    missed += [
        f"{name}: best over worst user {found[name]}; the bar is {FAIRNESS_BAR}"
        for name in ("fairness_half_way", "fairness_end")
        if found[name] > FAIRNESS_BAR
    ]
    if not found["refused"] or found["refused_otherwise"]:
        missed.append(f"nothing was refused as it must be: {found['refused_otherwise']}")
    bar = max(REFUSED_P99_BAR_SECONDS * 1000, _REFUSED_BAR_IN_LOOKS * found["look_p99_ms"])
    if not found["refused_p99_ms"] <= bar:
        missed.append(f"refused after {found['refused_p99_ms']} ms (p99); the bar is {bar:.0f} ms")
    return missed


def _print(found: dict[str, Any]) -> None:
    print(found["machine"])
    print(f"{found['clients']} clients of {found['users']} users, {found['slots']} slots")
    print(f"{'executions right':<40}{found['right']} of {found['executions']} in {found['seconds']} s")
    print(f"{'hung / lost':<40}{found['hung']} / {found['lost']}")
    print(f"{'executions a second':<40}{found['executions_per_second']}")
    print(f"{'latency p50 / p99, waiting included':<40}{found['p50_ms']} / {found['p99_ms']} ms")
    print(
        f"{'best over worst user, half way / end':<40}{found['fairness_half_way']} / {found['fairness_end']}"
    )
    print(f"{'refused p50 / p99':<40}{found['refused_p50_ms']} / {found['refused_p99_ms']} ms")
    print(f"{'  a look p50 / p99, for comparison':<40}{found['look_p50_ms']} / {found['look_p99_ms']} ms")
    print(f"{'refusals':<40}{found['refused']}")
    for line in found["wrong"]:
        print(f"WRONG {line}")


def main() -> int:
    """Measures and prints; with `--check` 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1, naming each bar that is missed")
    parser.add_argument("--full", action="store_true", help="10,000 executions instead of 2,000")
    parser.add_argument("--executions", type=int, default=None, help="how many; default 2,000")
    parser.add_argument("--role", choices=("load", "refused"), help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    executions = arguments.executions or (10_000 if arguments.full else 2_000)
    if arguments.role:
        token = os.environ["SANDBOXD_TOKEN"]
        load = arguments.role == "load"
        work = _load(arguments.address, token, executions) if load else _be_refused(arguments.address, token)
        print(json.dumps(asyncio.run(work)))
        return 0
    found = measure(executions)
    if arguments.json:
        print(json.dumps(found))
    else:
        _print(found)
    missed = check(found) if arguments.check else []
    for line in missed:
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
