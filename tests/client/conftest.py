"""A real server process for the tests of the client, one for all of them."""

from collections.abc import AsyncIterator, Iterator

import pytest
from sandboxd_client import Client, Sandbox

from tests.support.server_process import Server, server_process


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_process(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with Client.connect(server.tcp, token=server.token) as found:
        yield found


@pytest.fixture
async def sandbox(client: Client) -> AsyncIterator[Sandbox]:
    async with client.create_sandbox() as found:
        yield found
