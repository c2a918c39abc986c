"""One server with its metrics port open, and a client's view of its calls."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server_process import Server, server_process


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose figures are served and whose log is kept in `log` beside its token."""
    directory = tmp_path_factory.mktemp("watched")
    with server_process(directory, metrics_port="0", pool_size="2", log_level="debug") as server:
        yield server


def log_lines(directory: Path) -> list[dict[str, object]]:
    """What a server has logged, one event a line."""
    return [json.loads(line) for line in (directory / "log").read_text().splitlines()]
