"""Rows J to L: disks that are full or fail, a history that is damaged."""

import asyncio
import contextlib
import errno
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.records import ExecutionState
from sandboxd.store.store import StoreSettings, open_store
from tests.chaos.ledger import Ledger, ending, history
from tests.chaos.model import Bar, Case, NotRun, Watch
from tests.chaos.watching import checked_server, since, until
from tests.store.examples import KEEP_ALL, an_execution, an_outcome
from tests.store.failing_writes import FailingWrites
from tests.store.injuries import INJURIES, without_wal
from tests.support.serving import Serving, serving

_DISK_BYTES = 24 << 20
_REFUSALS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)

# --- J: the disk is full -------------------------------------------------------------------------


def _history_disk_full(watch: Watch) -> None:
    if os.geteuid() != 0:
        raise NotRun("a small file system can be mounted by root only")
    for _ in watch.rounds():  # a server each: the history of a few rounds would fill the disk by itself
        with checked_server(watch, sample_database=False, disk_bytes=_DISK_BYTES) as (server, ledger):
            _fill_and_free(watch, server, ledger)


def _fill_and_free(watch: Watch, server: Serving, ledger: Ledger) -> None:
    filler = Path(f"/proc/{server.pid}/root{server.data_directory}/filler")
    sandbox = server.create()
    _fill(filler)
    codes = {_told(watch, ledger, server, sandbox) for _ in range(20)}
    expected = {"SUCCEEDED", *(code.name for code in _REFUSALS)}
    watch.expect(codes <= expected, f"with a full disk: {codes}")
    watch.expect("RESOURCE_EXHAUSTED" in codes, f"a full disk was not told: {codes}")
    filler.unlink()
    with watch.timed("recovered"):
        until(lambda: _told(watch, ledger, server, sandbox) == "SUCCEEDED", what="it works again")
    server.delete(sandbox)


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(65536)):
            pass
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(b"x" * 512):
            pass


def _told(watch: Watch, ledger: Ledger, server: Serving, sandbox: str) -> str:
    """State or code of a small execution, measured."""
    with watch.timed("answered"):
        # Output, since small outcomes go into the room that the journal holds ready for them.
        return ending(ledger.begin(server, sandbox, "print('y' * 500_000)").answer())


def _log_disk_full(watch: Watch) -> None:
    """/dev/full refuses every write, as a full disk does."""
    with (
        Path("/dev/full").open("wb") as full,
        checked_server(watch, log=full, log_level="debug") as (
            server,
            ledger,
        ),
    ):
        for _ in watch.rounds():
            sandbox = server.create()
            state = _told(watch, ledger, server, sandbox)
            watch.expect(state == "SUCCEEDED", f"with a log that can't be written: {state}")
            with contextlib.suppress(grpc.RpcError):
                server.run("sbx_unknown", "1")  # refused calls are logged too
            server.delete(sandbox)


def _workspace_full(watch: Watch) -> None:
    fill = "for n in range(1000):\n    with open(f'/workspace/{n}', 'wb') as f: f.write(bytes(1 << 20))"
    free = "import os\nfor name in os.listdir('/workspace'): os.remove(f'/workspace/{name}')"
    with checked_server(watch) as (server, ledger):
        sandbox = server.create()
        for _ in watch.rounds():
            with watch.timed("answered"):
                told = ledger.execute(server, sandbox, fill)
            said = f"{told.state} {told.result.failure.message}"
            watch.expect(told.state == "FAILED" and "No space left" in said, f"workspace full: {said}")
            freed = ledger.execute(server, sandbox, free).state
            watch.expect(freed == "SUCCEEDED", f"after a full workspace: {freed}")
        server.delete(sandbox)


# --- K: writes that fail -------------------------------------------------------------------------


def _every_nth_write_fails(watch: Watch) -> None:
    """Every n-th write of the journal fails; afterwards the database is lost too: the journal is all."""
    for number in watch.rounds():
        nth = 1 + number % 50
        error = (errno.EIO, errno.ENOSPC, errno.EROFS, 0)[number // 50 % 4]
        with tempfile.TemporaryDirectory(prefix="sandboxd-chaos-") as directory:
            wrong = asyncio.run(_written_with_failures(Path(directory), nth, error))
        watch.expect(not wrong, f"n = {nth}, error {error}: {wrong}")
        watch.measure("lost", len(wrong))


async def _written_with_failures(directory: Path, nth: int, error: int) -> list[str]:
    settings = StoreSettings(directory=directory / "store", retention=KEEP_ALL)
    acknowledged = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sandboxd.store.journal.os.writev", FailingWrites(nth, error))
        async with open_store(settings) as store:
            for _ in range(60):
                record = an_execution()
                with contextlib.suppress(StoreFull, StoreUnavailable):
                    await store.executions.begin(record)
                    await store.executions.finish(record.id, an_outcome())
                    acknowledged.append(record.id)
    for path in settings.directory.glob("history.db*"):
        path.unlink()
    async with open_store(settings) as store:
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=1000)
    states = {item.id: item.state for item in page.executions}
    return [name for name in acknowledged if states.get(name) is not ExecutionState.SUCCEEDED]


# --- L: the history is damaged -------------------------------------------------------------------


def _damaged_at_start(watch: Watch, injure: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="sandboxd-chaos-") as directory, tempfile.TemporaryFile() as log:
        data = Path(directory) / "data"
        _fill_history(data)
        for _ in watch.rounds():
            database = data / "history/history.db"
            injure(database)
            log.truncate(0)
            started = time.monotonic()
            with serving(data_directory=str(data), sample_database=False, log=log) as server:
                watch.measure("starts", since(started))
                ledger = Ledger()
                ledger.quick(server, "1")
                ledger.check(watch, server, None)
                server.channel.close()
            log.seek(0)
            _expect_set_aside(watch, database, log.read())
            _fill_history(data)


def _fill_history(data: Path) -> None:
    """A history of a size that damage can hit anywhere."""

    async def record() -> None:
        async with open_store(StoreSettings(directory=data / "history", retention=KEEP_ALL)) as store:
            for _ in range(300):
                record = an_execution()
                await store.executions.begin(record)
                await store.executions.finish(record.id, an_outcome(stdout=os.urandom(2000)))

    asyncio.run(record())


def _expect_set_aside(watch: Watch, database: Path, log: bytes) -> None:
    aside = [path for path in database.parent.glob("history.db.*Z") if path.suffix not in ("-wal", "-shm")]
    watch.expect(bool(aside), "nothing was set aside")
    named = any(path.name.encode() in log for path in aside)
    watch.expect(named, f"the log does not name {[path.name for path in aside]}")
    for path in aside:
        path.unlink()


def _wal_gone(watch: Watch) -> None:
    """A killed server leaves much of its history in the log of the database: the journal has it too."""
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="sandboxd-chaos-") as directory:
        data = Path(directory) / "data"
        for _ in watch.rounds():
            with serving(data_directory=str(data), sample_database=False) as server:
                for _ in range(20):
                    ledger.quick(server, "print('w' * 500)")
                server.process.kill()
                server.process.wait()
                server.channel.close()
            without_wal(data / "history/history.db")
            started = time.monotonic()
            with serving(data_directory=str(data), sample_database=False) as server:
                watch.measure("starts", since(started))
                ledger.check(watch, server, None)
                server.channel.close()


def _damaged_while_running(watch: Watch) -> None:
    """The file is replaced by a damaged one, as a careless restore would: nothing acknowledged is lost."""
    with (
        tempfile.TemporaryFile() as log,
        checked_server(watch, sample_database=False, log=log) as (
            server,
            ledger,
        ),
    ):
        database = server.data_directory / "history/history.db"
        for number in watch.rounds():
            for _ in range(20):
                ledger.quick(server, "print('z' * 2000)")
            injury = list(INJURIES.values())[number % len(INJURIES)]
            replacement = database.with_suffix(".fresh")
            with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(replacement)) as copy:
                source.backup(copy)
            injury(replacement)
            replacement.rename(database)
            with watch.timed("healed"):
                until(lambda: _writes(ledger, server), what="history is written again")
            log.seek(0)
            watch.expect(b"store.database_set_aside" in log.read(), "the log does not tell of it")
            log.truncate(0)


def _writes(ledger: Ledger, server: Serving) -> bool:
    try:
        done = ledger.quick(server, "1").execution.id
        return any(item.id == done for item in history(server))
    except grpc.RpcError:
        return False


def _damaged(name: str, injure: Callable[[Path], None]) -> Case:
    return Case(
        row="L",
        what=f"at start: {name}",
        rounds=20,
        quick_rounds=2,
        bars=(Bar(name="starts", most=5.0),),
        run=lambda watch: _damaged_at_start(watch, injure),
    )


CASES = (
    Case(
        row="J", what="the disk of the history is full", rounds=10, quick_rounds=3,
        bars=(Bar(name="answered", most=5.0), Bar(name="recovered", most=5.0)),
        run=_history_disk_full,
    ),
    Case(
        row="J", what="the disk of the log is full", rounds=10, quick_rounds=3,
        bars=(Bar(name="answered", most=5.0),),
        run=_log_disk_full,
    ),
    Case(
        row="J", what="the workspace is full", rounds=10, quick_rounds=3,
        bars=(Bar(name="answered", most=5.0),),
        run=_workspace_full,
    ),
    Case(
        row="K", what="every n-th write of the history fails", rounds=200, quick_rounds=50,
        bars=(Bar(name="lost", most=0.0, unit=""),),
        run=_every_nth_write_fails,
    ),
    *(_damaged(name, injure) for name, injure in INJURIES.items()),
    Case(
        row="L", what="at start: no write-ahead log", rounds=20, quick_rounds=2,
        bars=(Bar(name="starts", most=5.0),),
        run=_wal_gone,
    ),
    Case(
        row="L", what="while the server runs", rounds=20, quick_rounds=5,
        bars=(Bar(name="healed", most=5.0),),
        run=_damaged_while_running,
    ),
)  # fmt: skip
