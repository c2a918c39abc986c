"""Stores on real engines: a SQLite file, and a PostgreSQL that the tests start."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog

from sandboxd.store.store import StoreSettings
from tests.store.examples import KEEP_ALL
from tests.store.postgres import find_binaries, running_server

REFUSALS = {
    "store.batch_refused",
    "store.record_refused",
    "store.task_failed",
    "store.journal_record_unreadable",
}


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[str]:
    if find_binaries() is None:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    with running_server() as socket:
        yield socket


@pytest.fixture
async def postgres_url(postgres_socket: str) -> str:
    name = f"store_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(host=postgres_socket, user="postgres", database="postgres")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return f"postgresql://postgres@/{name}?host={postgres_socket}"


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> StoreSettings:
    return StoreSettings(directory=tmp_path / "store", retention=KEEP_ALL)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    return StoreSettings(directory=tmp_path / "store", url=url, retention=KEEP_ALL)


@pytest.fixture(autouse=True)
def _nothing_refused() -> Iterator[None]:
    """The store must be able to write whatever it was given."""
    with structlog.testing.capture_logs() as events:
        yield
    assert not [event for event in events if event["event"] in REFUSALS]
