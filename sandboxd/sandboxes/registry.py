"""Who exists: sandboxes by owner and id, made, listed, deleted and expired in one place."""

import asyncio
import contextlib

import structlog

from sandboxd.errors import SandboxNotFound, TooManySandboxes
from sandboxd.ids import SandboxId, new_sandbox_id
from sandboxd.sandboxes.model import SandboxSpec, SandboxState
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.supervisor.supervisor import Supervisor

_log = structlog.get_logger(__name__)

_EXPIRY_TICK_SECONDS = 0.5


class SandboxRegistry:
    """The only place that looks a sandbox up. A foreign one and a missing one are the same to a caller."""

    def __init__(self, *, supervisor: Supervisor, max_sandboxes: int) -> None:
        self._supervisor = supervisor
        self._max_sandboxes = max_sandboxes
        self._sandboxes: dict[SandboxId, Sandbox] = {}
        self._expiry: asyncio.Task[None] | None = None
        self.created_count = 0

    def start(self) -> None:
        """Begins to expire idle sandboxes."""
        self._expiry = asyncio.create_task(self._expire_idle())

    async def close(self) -> None:
        """Ends every sandbox."""
        if self._expiry:
            self._expiry.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._expiry
        await asyncio.gather(*(sandbox.end(SandboxState.ABORTED) for sandbox in self._sandboxes.values()))
        self._sandboxes.clear()

    @property
    def active_count(self) -> int:
        """Sandboxes that can be used."""
        return len(self._sandboxes)

    async def create(self, *, owner: str, user_id: str, spec: SandboxSpec) -> Sandbox:
        """A sandbox with a ready guest; nothing is left of one that can't be made."""
        if len(self._sandboxes) >= self._max_sandboxes:
            raise TooManySandboxes(resource="sandboxes", limit=self._max_sandboxes, retry_after=5.0)
        sandbox = Sandbox(
            sandbox_id=new_sandbox_id(), owner=owner, user_id=user_id, spec=spec, supervisor=self._supervisor
        )
        self._sandboxes[sandbox.id] = sandbox  # counted while it is made
        try:
            async with sandbox.turn:
                await sandbox.guest()
        except BaseException:
            self._sandboxes.pop(sandbox.id, None)
            sandbox.state = SandboxState.ABORTED
            raise
        self.created_count += 1
        return sandbox

    def get(self, *, owner: str, sandbox_id: str) -> Sandbox:
        """The sandbox, if it is this owner's."""
        sandbox = self._sandboxes.get(SandboxId(sandbox_id))
        if sandbox is None or sandbox.owner != owner:
            raise SandboxNotFound(id=sandbox_id)
        return sandbox

    def list(self, *, owner: str) -> list[Sandbox]:
        """The owner's sandboxes, oldest first."""
        return [sandbox for sandbox in self._sandboxes.values() if sandbox.owner == owner]

    async def delete(self, *, owner: str, sandbox_id: str) -> Sandbox:
        """Ends it, a running execution included; no process of it is left when this returns."""
        sandbox = self.get(owner=owner, sandbox_id=sandbox_id)
        await self.remove(sandbox, SandboxState.DELETED)
        return sandbox

    async def remove(self, sandbox: Sandbox, state: SandboxState) -> None:
        """Takes it out and ends it."""
        self._sandboxes.pop(sandbox.id, None)
        await sandbox.end(state)

    def discard(self, sandbox: Sandbox) -> None:
        """Takes it out and kills it without waiting until its process is reaped."""
        self._sandboxes.pop(sandbox.id, None)
        sandbox.kill(SandboxState.DELETED)

    async def _expire_idle(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_TICK_SECONDS)
            for sandbox in [sandbox for sandbox in self._sandboxes.values() if sandbox.expired]:
                _log.info("sandbox.expired", sandbox=sandbox.id[:8])
                await self.remove(sandbox, SandboxState.EXPIRED)
