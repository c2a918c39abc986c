"""The part of a start that need not wait for the rest: the host probed and the first zygote on its way.

Preloading takes a second or two of another core; importing the server takes as long on this one. So this
module imports little, and `serve` imports the server behind it.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandboxd import memory
from sandboxd.isolation import credentials
from sandboxd.settings import Settings
from sandboxd.supervisor.probing import probe_host
from sandboxd.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from sandboxd.rpc.server import BoundAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStart:
    """A supervisor whose first zygote is being started."""

    supervisor: Supervisor
    started: asyncio.Task[None]
    """Raises what made the first zygote fail."""


@asynccontextmanager
async def early_start(settings: Settings, *, fault_step: str = "") -> AsyncIterator[EarlyStart]:
    """Raises `IsolationInsufficient` below the floor; at the end every process is gone."""
    credentials.set_dumpable(dumpable=False)  # a guest with the same uid could else read this memory
    isolation = probe_host(without=settings.without_layers)
    async with AsyncExitStack() as stack:
        if isolation.cgroups is not None:
            stack.callback(isolation.cgroups.remove)
        isolation.require(settings.floor)
        supervisor = Supervisor(
            isolation=isolation,
            default_limits=settings.default_limits,
            pool_size=settings.pool_size,
            zygote_max_age=settings.zygote_max_age,
            fault_step=fault_step,
        )
        stack.push_async_callback(supervisor.close)
        started = asyncio.create_task(supervisor.start())
        stack.push_async_callback(_ended, started)
        yield EarlyStart(supervisor=supervisor, started=started)


async def serve(settings: Settings, *, started: Callable[["BoundAddresses"], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT; a second one ends the drain at once."""
    memory.give_back_large_blocks()
    async with early_start(settings) as early:
        # In a thread, since the zygote asks for its id maps meanwhile.
        await asyncio.to_thread(importlib.import_module, "sandboxd.app")
        from sandboxd.app import run_server

        await run_server(settings, early=early, started=started)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
