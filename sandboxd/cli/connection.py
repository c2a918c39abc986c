"""Where a command runs code: a server that answers, or one inside this process; a sandbox for the run."""

import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxd.cli.output import give_up, say

if TYPE_CHECKING:
    from sandboxd_client import Client, Sandbox
    from sandboxd_client.client import CreateOptions

_KNOCK_SECONDS = 1.0


def read_code(file: str, *, as_json: bool) -> str:
    """The code in a file or, for `-`, on standard input."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        give_up(f"{file}: {error.strerror}", as_json=as_json, reason="FILE")
    except UnicodeDecodeError as error:
        give_up(f"{file}: not UTF-8 at byte {error.start}", as_json=as_json, reason="FILE")


def answers(*, as_json: bool) -> bool:
    """Whether something listens at the default address; else says that an embedded server takes over."""
    from sandboxd_client.credentials import find_address

    address = find_address()
    try:
        _knock(address)
    except OSError:
        if not as_json:
            say(f"no server at {address}: using one inside this process")
        return False
    return True


def _knock(address: str) -> None:
    if address.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_KNOCK_SECONDS)
            probe.connect(address.removeprefix("unix:").removeprefix("//"))
        return
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS):
        pass


@asynccontextmanager
async def sandbox_for_run(
    client: "Client", sandbox_id: str | None, options: "CreateOptions"
) -> "AsyncIterator[Sandbox]":
    """The sandbox of that id, or one that is deleted after the run."""
    if sandbox_id is not None:
        yield await client.get_sandbox(sandbox_id)
        return
    async with client.create_sandbox(**options) as sandbox:
        yield sandbox


@asynccontextmanager
async def client_for_run(address: str | None, *, embedded: bool) -> "AsyncIterator[Client]":
    """A client of the server at `address`, or of one inside this process."""
    if not embedded:
        from sandboxd_client import Client

        async with Client.connect(address) as client:
            yield client
        return
    from sandboxd.cli.embedded import embedded_client

    with tempfile.TemporaryDirectory(prefix="sandboxd-") as directory:
        async with embedded_client(Path(directory)) as client:
            yield client
