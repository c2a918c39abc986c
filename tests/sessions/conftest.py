"""Sessions are tested on the shared server once it has done everything for the first time."""

import pytest

from tests.support.serving import Serving
from tests.support.sessions import CRASHES, sandbox


@pytest.fixture(scope="session")
def warm_server(shared_server: Serving) -> Serving:
    """The first call opens connections and files that stay open: they are no leak."""
    with sandbox(shared_server) as one:
        one.run("x = 1")
        one.run(CRASHES["exit"])
    return shared_server


@pytest.fixture
def server(warm_server: Serving) -> Serving:
    """The shared server, alive."""
    assert warm_server.process.poll() is None, "an earlier test ended the server"
    return warm_server
