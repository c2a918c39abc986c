"""Disks that are full or fail, a database server that goes away: a clear refusal, no loss, recovery."""

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.journal import Journal, JournalLimits
from sandboxd.store.records import ExecutionState
from sandboxd.store.store import StoreSettings, open_store
from tests.store.examples import KEEP_ALL, a_query, an_execution, an_outcome
from tests.store.failing_writes import FailingWrites

ROOT = Path(__file__).parents[2]


@pytest.mark.kernel
def test_a_full_disk_refuses_clearly_loses_nothing_and_recovers_without_a_restart(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a small file system can be mounted by root only")
    child = subprocess.run(
        ["unshare", "--mount", sys.executable, "-m", "tests.store.full_disk_child", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr.decode()[-3000:]
    figures = json.loads(child.stdout)
    assert figures["refusal"]["reason"] == "STORE_FULL"
    assert figures["refusal"]["retry"] > 0
    assert figures["slowest"] < 1.0
    assert figures["recovered_seconds"] < 5.0
    assert figures["set_aside"] == 0
    assert figures["acknowledged"] > 50
    assert figures["lost"] == 0


@pytest.fixture
def failing_writes(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[FailingWrites]:
    every, error = request.param
    writes = FailingWrites(every, error)
    monkeypatch.setattr("sandboxd.store.journal.os.writev", writes)
    yield writes
    monkeypatch.undo()


@pytest.mark.parametrize(
    "failing_writes",
    [(n, e) for n in (1, 2, 3, 7, 20) for e in (errno.EIO, errno.ENOSPC, errno.EROFS, 0)],
    indirect=True,
)
async def test_every_nth_write_failing_corrupts_nothing(
    sqlite_settings: StoreSettings, failing_writes: FailingWrites
) -> None:
    acknowledged, refused = [], 0
    async with open_store(sqlite_settings) as store:
        for _ in range(60):
            record = an_execution()
            try:
                await store.executions.begin(record)
                await store.executions.finish(record.id, an_outcome())
            except (StoreFull, StoreUnavailable):
                refused += 1
            else:
                acknowledged.append(record.id)
    for path in sqlite_settings.directory.glob("history.db*"):
        path.unlink()
    async with open_store(sqlite_settings) as store:
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=1000)
    states = {e.id: e.state for e in page.executions}
    assert refused > 0
    assert [states[name] for name in acknowledged] == [ExecutionState.SUCCEEDED] * len(acknowledged)


def test_a_segment_that_held_nothing_is_dropped_without_its_successor(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"first", begins_work=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sandboxd.store.journal.os.writev", FailingWrites(1, 0))
        patch.setattr("sandboxd.store.journal.os.ftruncate", FailingTruncate())
        with pytest.raises(StoreFull):
            journal.append(b"torn", begins_work=True)
        with pytest.raises(StoreFull):
            journal.append(b"torn at the start of a segment", begins_work=True)
    last = journal.append(b"second", begins_work=True)
    journal.drop_until(last - 1)
    assert [payload for _, payload in journal.records_after(0)] == [b"second"]
    journal.close()
    assert [payload for _, payload in Journal(tmp_path).records_after(0)] == [b"second"]


class FailingTruncate:
    def __call__(self, descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


async def test_an_outcome_that_could_not_be_journalled_is_still_written(
    sqlite_settings: StoreSettings,
) -> None:
    async with open_store(sqlite_settings) as store:
        record = an_execution()
        await store.executions.begin(record)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sandboxd.store.journal.os.writev", FailingWrites(1, errno.ENOSPC))
            with pytest.raises(StoreFull):
                await store.executions.finish(record.id, an_outcome())
            with pytest.raises(StoreFull):
                await store.executions.begin(an_execution())
            with pytest.raises(StoreFull):
                await store.queries.record(a_query())
        found = await store.executions.get(owner="ada", execution_id=record.id)
    assert found.state is ExecutionState.SUCCEEDED


def test_the_journal_refuses_new_work_before_outcomes(tmp_path: Path) -> None:
    limits = JournalLimits(segment_bytes=4096, total_bytes=16_384, reserve_bytes=4096)
    journal = Journal(tmp_path, limits)
    for _ in range(15):
        journal.append(b"x" * 1000, begins_work=True)
    with pytest.raises(StoreUnavailable):
        journal.append(b"x" * 2000, begins_work=True)
    for _ in range(8):
        journal.append(b"y" * 1000, begins_work=False)
    last = journal.last_sequence
    journal.rotate()
    journal.drop_until(last)
    assert journal.total_bytes == 0
    assert journal.append(b"z", begins_work=True) == last + 1
    journal.close()


@pytest.fixture
def own_postgres() -> Iterator["OwnPostgres"]:
    from tests.store.postgres import find_binaries, running_server

    if find_binaries() is None:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    with running_server() as socket:
        yield OwnPostgres(socket)


class OwnPostgres:
    """A server that the test may stop."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.url = f"postgresql://postgres@/postgres?host={socket}"

    def control(self, *arguments: str) -> None:
        from tests.store.postgres import control

        control(self.socket, *arguments)


async def test_a_database_server_that_goes_away_costs_nothing_but_reads(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    settings = StoreSettings(directory=tmp_path / "store", url=own_postgres.url, retention=KEEP_ALL)
    async with open_store(settings) as store:
        before = an_execution()
        await store.executions.begin(before)
        await store.flush()
        await asyncio.to_thread(own_postgres.control, "-m", "immediate", "stop")
        during = an_execution()
        await store.executions.begin(during)
        await store.executions.finish(during.id, an_outcome())
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.executions.get(owner="ada", execution_id=during.id)
        assert time.monotonic() - started < 5.0
        await asyncio.to_thread(own_postgres.control, "start")
        started = time.monotonic()
        while True:
            try:
                found = await store.executions.get(owner="ada", execution_id=during.id)
            except StoreUnavailable:
                assert time.monotonic() - started < 5.0
                await asyncio.sleep(0.05)
            else:
                break
    assert found.state is ExecutionState.SUCCEEDED
    async with open_store(settings) as store:
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=10)
    assert {e.id for e in page.executions} == {before.id, during.id}


async def test_a_database_server_stopped_at_shutdown_is_caught_up_with_later(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    settings = StoreSettings(directory=tmp_path / "store", url=own_postgres.url, retention=KEEP_ALL)
    record = an_execution()
    async with open_store(settings) as store:
        await store.flush()
        await asyncio.to_thread(own_postgres.control, "-m", "immediate", "stop")
        await store.executions.begin(record)
        await store.executions.finish(record.id, an_outcome())
    with pytest.raises(StoreUnavailable):
        async with open_store(settings):
            pass
    await asyncio.to_thread(own_postgres.control, "start")
    async with open_store(settings) as store:
        found = await store.executions.get(owner="ada", execution_id=record.id)
    assert found.outcome == an_outcome()


async def test_a_lock_of_the_store_lost_with_its_server_does_not_stop_writing(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    settings = StoreSettings(directory=tmp_path / "store", url=own_postgres.url, retention=KEEP_ALL)
    async with open_store(settings) as store:
        connection = await asyncpg.connect(own_postgres.url)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        await connection.close()
        record = an_execution()
        await store.executions.begin(record)
        found = None
        started = time.monotonic()
        while found is None:
            try:
                found = await store.executions.get(owner="ada", execution_id=record.id)
            except StoreUnavailable:
                assert time.monotonic() - started < 5.0
                await asyncio.sleep(0.02)
    assert found.id == record.id
