"""Sessions are tested on the shared server once it has done everything for the first time."""

import pytest

from tests.support.serving import Serving
from tests.support.sessions import warm_up


@pytest.fixture(scope="session")
def warm_server(shared_server: Serving) -> Serving:
    """The first call opens connections and files that stay open: they are no leak."""
    warm_up(shared_server)
    return shared_server


@pytest.fixture
def server(warm_server: Serving) -> Serving:
    """The shared server, alive."""
    assert warm_server.process.poll() is None, "an earlier test ended the server"
    return warm_server
