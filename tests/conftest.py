"""Fixtures that need a running server."""

from collections.abc import Iterator

import pytest

from tests.support.leftovers import assert_nothing_left, settled
from tests.support.serving import Serving, serving


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Serving]:
    """One server for all tests that only attack it: that it goes on serving is part of what they show."""
    with serving() as server:
        yield server


@pytest.fixture
def server(shared_server: Serving) -> Serving:
    """The shared server, alive."""
    assert shared_server.process.poll() is None, "an earlier test ended the server"
    return shared_server


@pytest.fixture
def leak_free(server: Serving) -> Iterator[Serving]:
    """The shared server; the test fails when it holds more afterwards than before."""
    server.delete(server.create())  # connections and lazily made things are there from now on
    before = settled(server.pid)
    yield server
    assert_nothing_left(server.pid, before)
