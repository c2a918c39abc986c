"""The server is killed at random moments, over and over: what was acknowledged is in the history."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.queries import QueryFilter
from sandboxd.store.records import Duplicate, ExecutionState
from sandboxd.store.store import Store, StoreSettings, open_store
from tests.store.examples import KEEP_ALL, an_execution

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("SANDBOXD_KILL_ROUNDS", "3"))


def _run_and_kill(directory: Path, url: str, prefix: str, after_seconds: float) -> dict[str, set[str]]:
    """What a child acknowledged before it was killed, by kind."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.store.crash_child", str(directory), url, prefix],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + after_seconds
    os.set_blocking(child.stdout.fileno(), False)
    said = b""
    while time.monotonic() < deadline:
        said += child.stdout.read() or b""
    child.send_signal(signal.SIGKILL)
    child.wait()
    os.set_blocking(child.stdout.fileno(), True)
    said += child.stdout.read()
    child.stdout.close()
    lines = [line.split() for line in said.decode().split("\n")[:-1]]
    return {
        kind: {name for k, name in lines if k == kind} for kind in ("sandbox", "begun", "finished", "query")
    }


async def _everything(store: Store) -> dict[str, ExecutionState]:
    found: dict[str, ExecutionState] = {}
    token = ""
    while True:
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=1000, page_token=token)
        for item in page.executions:
            assert item.id not in found
            found[item.id] = item.state
        token = page.next_page_token
        if not token:
            return found


async def _check(store: Store, said: dict[str, set[str]]) -> None:
    found = await _everything(store)
    assert said["begun"] <= found.keys()
    for name in said["finished"]:
        assert found[name] is ExecutionState.SUCCEEDED
    assert not [n for n, s in found.items() if s in (ExecutionState.RUNNING, ExecutionState.QUEUED)]
    for name in said["begun"] - said["finished"]:
        assert found[name] in (ExecutionState.ABORTED, ExecutionState.SUCCEEDED)
    some = random.sample(sorted(said["finished"]), min(20, len(said["finished"])))
    for name in some:
        record = await store.executions.get(owner="ada", execution_id=name)
        assert record.outcome
        assert record.outcome.stdout.startswith(name.encode())
        again = an_execution(request_id=f"req_{name}", request_fingerprint=b"f")
        assert isinstance(await store.executions.begin(again), Duplicate)
    for name in random.sample(sorted(said["sandbox"]), min(5, len(said["sandbox"]))):
        await store.sandboxes.get(owner="ada", sandbox_id=name)
    page = await store.queries.list(QueryFilter(owner="ada"), page_size=100_000)
    assert said["query"] <= {entry.id for entry in page.queries}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_killed_server_has_lost_nothing_it_acknowledged(settings: StoreSettings) -> None:
    acknowledged = 0
    for number in range(ROUNDS):
        said = _run_and_kill(
            settings.directory, settings.url, f"exe_{number}", after_seconds=random.uniform(0.02, 0.8)
        )
        started = time.monotonic()
        async with open_store(settings) as store:
            opened = time.monotonic() - started
            await _check(store, said)
            assert store.set_aside == ()
        assert opened < 3.0
        acknowledged += len(said["finished"])
    assert acknowledged > 0


async def test_the_control_without_a_journal_loses_acknowledged_runs(tmp_path: Path) -> None:
    settings = StoreSettings(directory=tmp_path / "store", retention=KEEP_ALL)
    said = _run_and_kill(settings.directory, "", "exe_c", after_seconds=0.3)
    for path in (settings.directory / "journal").glob("*.journal"):
        path.unlink()
    async with open_store(settings) as store:
        found = await _everything(store)
    assert said["finished"] - {n for n, s in found.items() if s is ExecutionState.SUCCEEDED}


async def test_a_lost_wal_file_loses_nothing(tmp_path: Path) -> None:
    settings = StoreSettings(directory=tmp_path / "store", retention=KEEP_ALL)
    said = _run_and_kill(settings.directory, "", "exe_w", after_seconds=0.7)
    wal = settings.directory / "history.db-wal"
    assert wal.stat().st_size > 0
    wal.unlink()
    async with open_store(settings) as store:
        await _check(store, said)


@pytest.mark.parametrize("kill_after_ms", [5, 10, 20, 40, 80, 120, 200])
async def test_a_kill_during_the_first_start_leaves_an_openable_store(
    tmp_path: Path, kill_after_ms: int
) -> None:
    settings = StoreSettings(directory=tmp_path / "store", retention=KEEP_ALL)
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.store.crash_child", str(settings.directory), "", "exe_m"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not settings.directory.exists():
        assert child.poll() is None
        time.sleep(0.001)
    time.sleep(kill_after_ms / 1000)
    child.send_signal(signal.SIGKILL)
    child.wait()
    async with open_store(settings) as store:
        await store.executions.begin(an_execution())
        await store.flush()
        assert store.set_aside == ()
