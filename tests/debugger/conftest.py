"""A real server for the tests that debug inside a sandbox."""

from collections.abc import Iterator

import pytest

from tests.support.serving import Serving, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Serving]:
    """One server for all of them; each test has its own sandbox."""
    with serving() as running:
        yield running


@pytest.fixture
def sandbox(server: Serving) -> Iterator[str]:
    made = server.create(debugging=True)
    yield made
    server.delete(made)
