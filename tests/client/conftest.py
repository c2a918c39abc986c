"""A real server process for the tests of the client, one for all of them."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sandboxd_client import Client, Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the server under test listens."""

    tcp: str
    unix: str
    token_file: Path
    log: Path

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    log = directory / "log"
    arguments = ["--port", "0", "--unix-socket", str(directory / "s"), "--data-directory", str(directory)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOXD_")}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandboxd", "serve", "--json", "--log-format", "json", *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"the server did not start:\n{log.read_text()}"
        facts = json.loads(line)
        yield Server(tcp=facts["tcp"], unix=facts["unix"], token_file=Path(facts["token_file"]), log=log)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with Client.connect(server.tcp, token=server.token) as found:
        yield found


@pytest.fixture
async def sandbox(client: Client) -> AsyncIterator[Sandbox]:
    async with client.create_sandbox() as found:
        yield found
