"""Databases that are damaged, newer, foreign or gone, at start and while the server runs."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from sandboxd.store.errors import StoreInUse, StoreUnavailable
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.migrate import HEAD_REVISION, known_revisions, upgrade
from sandboxd.store.setting_aside import Problem
from sandboxd.store.store import Store, StoreSettings, open_store
from sandboxd.store.tables import metadata
from tests.store.examples import KEEP_ALL, an_execution, an_outcome
from tests.store.injuries import (
    damage_header,
    damage_pages,
    foreign,
    newer,
    other_file,
    overwrite,
    truncate,
    truncate_within_the_first_page,
)


async def _fill(settings: StoreSettings, count: int = 300) -> None:
    async with open_store(settings) as store:
        await _record(store, count)


async def _record(store: Store, count: int) -> list[str]:
    ids = []
    for _ in range(count):
        record = an_execution()
        await store.executions.begin(record)
        await store.executions.finish(record.id, an_outcome(stdout=os.urandom(2000)))
        ids.append(record.id)
    return ids


CASES: list[tuple[Callable[[Path], None], Problem]] = [
    (damage_header, Problem.DAMAGED),
    (damage_pages, Problem.DAMAGED),
    (truncate, Problem.DAMAGED),
    (truncate_within_the_first_page, Problem.DAMAGED),
    (other_file, Problem.DAMAGED),
    (newer, Problem.NEWER),
    (foreign, Problem.FOREIGN),
]


@pytest.mark.parametrize(("damage", "problem"), CASES, ids=[case[0].__name__ for case in CASES])
async def test_an_unusable_file_is_set_aside_at_start_and_said_so(
    sqlite_settings: StoreSettings, damage: Callable[[Path], None], problem: Problem
) -> None:
    await _fill(sqlite_settings)
    path = sqlite_settings.directory / "history.db"
    damage(path)
    content = path.read_bytes()
    started = time.monotonic()
    async with open_store(sqlite_settings) as store:
        assert time.monotonic() - started < 5.0
        [moved] = store.set_aside
        assert moved.problem is problem
        assert moved.path.read_bytes() == content
        assert problem.value in moved.path.name
        assert str(moved.path) in str(moved)
        [new] = await _record(store, 1)
        await store.executions.get(owner="ada", execution_id=new)
    async with open_store(sqlite_settings) as store:
        assert store.set_aside == ()


async def test_what_the_journal_still_has_survives_the_loss_of_the_database(
    sqlite_settings: StoreSettings,
) -> None:
    async with open_store(sqlite_settings) as store:
        ids = await _record(store, 50)
    damage_header(sqlite_settings.directory / "history.db")
    async with open_store(sqlite_settings) as store:
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=100)
    assert [e.id for e in page.executions] == ids[::-1]


@pytest.mark.parametrize("damage", [damage_header, truncate, other_file, Path.unlink, damage_pages])
async def test_a_file_damaged_while_the_server_runs_is_replaced_and_loses_nothing_recent(
    sqlite_settings: StoreSettings, damage: Callable[[Path], None]
) -> None:
    async with open_store(sqlite_settings) as store:
        ids = await _record(store, 200)
        await store.flush()
        await store._writer.database.checkpoint()
        path = sqlite_settings.directory / "history.db"
        replacement = path.with_suffix(".fresh")
        # As a bad disk or a careless restore would: pages cached by open connections don't hide it.
        replacement.write_bytes(path.read_bytes())
        if damage is not Path.unlink:
            damage(replacement)
            replacement.rename(path)
        else:
            path.unlink()
        later = await _record(store, 5)
        await _eventually_readable(store)
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=1000)
        assert [e.id for e in page.executions] == (ids + later)[::-1]
        [moved] = store.set_aside
        assert moved.problem is (Problem.GONE if damage is Path.unlink else Problem.DAMAGED)


async def _eventually_readable(store: Store) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            await store.flush()
        except StoreUnavailable:
            assert time.monotonic() < deadline
        else:
            return


async def test_damage_in_place_that_a_read_runs_into_is_replaced(sqlite_settings: StoreSettings) -> None:
    async with open_store(sqlite_settings) as store:
        ids = await _record(store, 300)
        await store.flush()
        await store._writer.database.checkpoint()
        path = sqlite_settings.directory / "history.db"
        for page in range(1, path.stat().st_size // 4096):
            overwrite(path, page * 4096, os.urandom(4096))
        deadline = time.monotonic() + 5
        while True:
            try:
                page_of_all = await store.executions.list(ExecutionFilter(owner="ada"), page_size=1000)
                await store.executions.get(owner="ada", execution_id=ids[0])
            except StoreUnavailable:
                assert time.monotonic() < deadline
            else:
                break
            await _record(store, 1)
        assert set(ids) <= {e.id for e in page_of_all.executions}


async def test_a_second_server_on_the_same_store_is_refused(settings: StoreSettings) -> None:
    async with open_store(settings):
        with pytest.raises(StoreInUse):
            async with open_store(settings):
                pass


async def test_a_second_server_on_the_same_database_is_refused(
    settings: StoreSettings, tmp_path: Path
) -> None:
    if not settings.url:
        pytest.skip("a SQLite file is guarded by the lock of its directory")
    other = StoreSettings(directory=tmp_path / "other", url=settings.url, retention=KEEP_ALL)
    async with open_store(settings):
        with pytest.raises(StoreInUse):
            async with open_store(other):
                pass


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
async def test_a_damaged_journal_keeps_its_good_part_and_its_file(
    sqlite_settings: StoreSettings, where: float
) -> None:
    async with open_store(sqlite_settings) as store:
        ids = await _record(store, 100)
    directory = sqlite_settings.directory
    for path in directory.glob("history.db*"):
        path.unlink()
    [segment] = (directory / "journal").glob("*.journal")
    overwrite(segment, int(segment.stat().st_size * where), b"\xde\xad\xbe\xef" * 8)
    content = segment.read_bytes()
    async with open_store(sqlite_settings) as store:
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=1000)
        kept = [e.id for e in page.executions][::-1]
        assert kept == ids[: len(kept)]
        assert len(kept) >= int(100 * where) - 2
        assert segment.with_suffix(".damaged").read_bytes() == content
        await _record(store, 1)


def test_the_migrations_make_the_tables_of_the_models() -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        upgrade(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    assert max(known_revisions()) == HEAD_REVISION


async def test_a_removed_data_directory_is_made_anew_while_the_server_runs(
    sqlite_settings: StoreSettings,
) -> None:
    async with open_store(sqlite_settings) as store:
        await _record(store, 5)
        await store.flush()
        shutil.rmtree(sqlite_settings.directory)
        await _record(store, 1)
        await _eventually_readable(store)
        later = await _record(store, 5)
        await _eventually_readable(store)
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=100)
        assert set(later) <= {e.id for e in page.executions}
        assert list((sqlite_settings.directory / "journal").glob("*.journal"))
    async with open_store(sqlite_settings) as store:
        again = await store.executions.list(ExecutionFilter(owner="ada"), page_size=100)
    assert set(later) <= {e.id for e in again.executions}
