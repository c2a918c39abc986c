"""Sessions are tested on the shared server once it has done everything for the first time."""

import pytest

from tests.support.serving import Serving
from tests.support.sessions import CRASHES, sandbox


@pytest.fixture(scope="session", autouse=True)
def warm(shared_server: Serving) -> None:
    """The first call opens connections and files that stay open: they are no leak."""
    with sandbox(shared_server) as one:
        one.run("x = 1")
        one.run(CRASHES["exit"])
