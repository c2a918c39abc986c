"""Who exists: sandboxes by owner and id, made, listed, deleted and expired in one place."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from sandboxd.accounts.quotas import QuotaLedger, Resource, UserKey
from sandboxd.errors import SandboxNotFound, TooManySandboxes
from sandboxd.ids import SandboxId, new_sandbox_id, shown
from sandboxd.sandboxes import records
from sandboxd.sandboxes.model import SandboxSpec, SandboxState
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.records import Duplicate, SandboxRecord
from sandboxd.store.sandboxes import SandboxFilter, SandboxHistory
from sandboxd.supervisor.supervisor import Supervisor

_log = structlog.get_logger(__name__)

_EXPIRY_TICK_SECONDS = 0.5


class SandboxRegistry:
    """The only place that looks a sandbox up. A foreign one and a missing one are the same to a caller."""

    def __init__(
        self, *, supervisor: Supervisor, store: SandboxHistory, ledger: QuotaLedger, max_sandboxes: int
    ) -> None:
        self._supervisor = supervisor
        self._store = store
        self._ledger = ledger
        self._max_sandboxes = max_sandboxes
        self._sandboxes: dict[SandboxId, Sandbox] = {}
        self._expiry: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to expire idle sandboxes."""
        self._expiry = asyncio.create_task(self._expire_idle())

    async def close(self) -> None:
        """Ends every sandbox."""
        if self._expiry:
            self._expiry.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._expiry
        sandboxes = list(self._sandboxes.values())
        await asyncio.gather(*(self.remove(sandbox, SandboxState.ABORTED) for sandbox in sandboxes))

    @property
    def active_count(self) -> int:
        """Sandboxes that can be used."""
        return len(self._sandboxes)

    async def create(
        self, *, owner: str, user_id: str, spec: SandboxSpec, request_id: str = ""
    ) -> Sandbox | SandboxRecord:
        """A sandbox with a ready guest; nothing is left of one that can't be made.

        A request id that was used before gives the sandbox of then: its record when it has ended.
        """
        sandbox = await self.create_unrecorded(owner=owner, user_id=user_id, spec=spec)
        try:
            begun = await self._store.create(records.created(sandbox, request_id=request_id))
        except BaseException:
            self.discard(sandbox)
            raise
        if isinstance(begun, Duplicate):
            self.discard(sandbox)
            return self._sandboxes.get(SandboxId(begun.record.id)) or begun.record
        sandbox.recorded = True
        return sandbox

    async def create_unrecorded(self, *, owner: str, user_id: str, spec: SandboxSpec) -> Sandbox:
        """A sandbox that leaves no record of its own, such as one made for a single execution."""
        self.require_room(1)
        sandbox = Sandbox(
            sandbox_id=new_sandbox_id(), owner=owner, user_id=user_id, spec=spec, supervisor=self._supervisor
        )
        sandbox.lease = self._ledger.acquire(UserKey(owner=owner, user_id=user_id), Resource.SANDBOXES)
        self._sandboxes[sandbox.id] = sandbox  # counted while it is made
        try:
            async with sandbox.turn:
                await sandbox.guest()
        except BaseException:
            self._sandboxes.pop(sandbox.id, None)
            sandbox.lease.release()
            sandbox.state = SandboxState.ABORTED
            raise
        return sandbox

    def require_room(self, count: int) -> None:
        """`TooManySandboxes` when `count` more are too many."""
        if len(self._sandboxes) + count > self._max_sandboxes:
            raise TooManySandboxes(resource="sandboxes", limit=self._max_sandboxes, retry_after=5.0)

    @contextlib.asynccontextmanager
    async def making(self, sandboxes: list[Sandbox]) -> AsyncIterator[None]:
        """Counts sandboxes while the block makes them, then records them; when anything fails, nothing of
        them stays."""
        self.require_room(len(sandboxes))
        self._sandboxes.update({sandbox.id: sandbox for sandbox in sandboxes})
        try:
            for sandbox in sandboxes:
                user = UserKey(owner=sandbox.owner, user_id=sandbox.user_id)
                sandbox.lease = self._ledger.acquire(user, Resource.SANDBOXES)
            yield
            await asyncio.gather(*(self._record(sandbox) for sandbox in sandboxes))
        except BaseException:
            await asyncio.gather(*(self.remove(sandbox, SandboxState.ABORTED) for sandbox in sandboxes))
            raise

    async def _record(self, sandbox: Sandbox) -> None:
        await self._store.create(records.created(sandbox, request_id=""))
        sandbox.recorded = True

    def get(self, *, owner: str | None, sandbox_id: str) -> Sandbox:
        """The sandbox, if it is this owner's; an owner of None is an admin, who sees all."""
        sandbox = self._sandboxes.get(SandboxId(sandbox_id))
        if sandbox is None or owner not in (None, sandbox.owner):
            raise SandboxNotFound(id=sandbox_id)
        return sandbox

    async def find(self, *, owner: str | None, sandbox_id: str) -> Sandbox | SandboxRecord:
        """The sandbox, or its record when it has ended."""
        sandbox = self._sandboxes.get(SandboxId(sandbox_id))
        if sandbox is not None and owner in (None, sandbox.owner):
            return sandbox
        return await self._store.get(owner=owner, sandbox_id=sandbox_id)

    def all_of(self, *, owner: str | None) -> list[Sandbox]:
        """The owner's sandboxes that can be used, oldest first."""
        return [sandbox for sandbox in self._sandboxes.values() if owner in (None, sandbox.owner)]

    async def list_recorded(
        self, wanted: SandboxFilter, *, page_size: int, page_token: str
    ) -> tuple[list[Sandbox | SandboxRecord], str]:
        """A page, newest first, ended ones included, and the token of the next."""
        page = await self._store.list(wanted, page_size=page_size, page_token=page_token)
        found = [self._sandboxes.get(SandboxId(record.id)) or record for record in page.sandboxes]
        return found, page.next_page_token

    async def remove(self, sandbox: Sandbox, state: SandboxState) -> None:
        """Takes it out and ends it."""
        if self._sandboxes.pop(sandbox.id, None) is None:
            return
        await sandbox.end(state)
        if sandbox.recorded and sandbox.end_time is not None:
            stored = records.stored_state(state)
            with contextlib.suppress(StoreFull, StoreUnavailable):  # written when the store is back
                await self._store.end(sandbox.id, state=stored, end_time=sandbox.end_time)

    def discard(self, sandbox: Sandbox) -> None:
        """Takes it out and kills it without waiting until its process is reaped."""
        self._sandboxes.pop(sandbox.id, None)
        sandbox.kill(SandboxState.DELETED)

    async def _expire_idle(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_TICK_SECONDS)
            for sandbox in [sandbox for sandbox in self._sandboxes.values() if sandbox.expired]:
                _log.info("sandbox.expired", sandbox=shown(sandbox.id))
                await self.remove(sandbox, SandboxState.EXPIRED)
