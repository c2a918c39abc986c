"""A server inside this process, for one command or a demonstration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandboxd_client import Client


@asynccontextmanager
async def embedded_client(directory: Path, **settings: Any) -> "AsyncIterator[Client]":
    """A client of a server that lives as long as the block, on a free port, its state in `directory`."""
    from sandboxd import logs
    from sandboxd.app import running_server
    from sandboxd.settings import load_settings

    logs.configure(style="auto", level="error")
    chosen: dict[str, Any] = {
        "port": 0,
        "data_directory": directory,
        "drain_grace": timedelta(seconds=2),
    }
    found = load_settings(**chosen | settings)
    async with running_server(found) as addresses:
        from sandboxd_client import Client

        token = found.token_path.read_text().strip()
        async with Client.connect(addresses.tcp, token=token) as client:
            yield client
