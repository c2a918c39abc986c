"""Branches: sandboxes made from a kept state of another one, and the calls that move along kept states."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from sandboxd.errors import (
    CheckpointNotFound,
    CopyFailed,
    Exhausted,
    NotBranchable,
    RequestIdReused,
    SandboxBusy,
    SandboxdError,
)
from sandboxd.ids import new_sandbox_id
from sandboxd.sandboxes.checkpoints import MOST_NAMED, Checkpoint, ParkedState
from sandboxd.sandboxes.registry import SandboxRegistry
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.supervisor import pidfds
from sandboxd.supervisor.supervisor import Supervisor

MOST_BRANCHES = 100
"""Branches that one call may ask for."""
_MOST_REMEMBERED = 10_000
"""Request ids of branch calls."""
_TURN_SECONDS = 10.0
_RESTORES_AT_ONCE = 4
_BRANCH_DIRECTORY = "/workspace/.branches"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateName:
    """Which kept state is meant: exactly one field is given."""

    checkpoint_id: str = ""
    name: str = ""
    before_execution_id: str = ""
    before_number: int = 0

    @property
    def text(self) -> str:
        """For an error message."""
        before = self.before_execution_id or (str(self.before_number) if self.before_number else "")
        return self.checkpoint_id or self.name or f"before execution {before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """What a rewind did."""

    restored: Checkpoint
    left: Checkpoint | None


class Branching:
    """Makes branches and moves sessions between their kept states."""

    def __init__(self, *, registry: SandboxRegistry, supervisor: Supervisor) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._forks: OrderedDict[tuple[str, str], tuple[asyncio.Future[list[Sandbox]], bytes]] = OrderedDict()

    async def fork_once(
        self,
        origin: Sandbox,
        *,
        count: int,
        checkpoint_id: str,
        idle_timeout: timedelta | None,
        request: tuple[str, bytes],
    ) -> list[Sandbox]:
        """As `fork`; with a request id (and the request's fingerprint) that was used before, it gives the
        branches of the first call, which may be under way."""
        request_id, fingerprint = request
        key = (origin.owner, request_id)
        if request_id and key in self._forks:
            first, of_first = self._forks[key]
            if fingerprint != of_first:
                raise RequestIdReused()
            return await asyncio.shield(first)
        making = asyncio.ensure_future(
            self.fork(origin, count=count, checkpoint_id=checkpoint_id, idle_timeout=idle_timeout)
        )
        if request_id:
            self._forks[key] = (making, fingerprint)
            making.add_done_callback(lambda done: self._forget_failed(key, done))
            while len(self._forks) > _MOST_REMEMBERED:
                self._forks.popitem(last=False)
        return await asyncio.shield(making)

    def _forget_failed(self, key: tuple[str, str], done: asyncio.Future[list[Sandbox]]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._forks.pop(key, None)  # nothing was made: a retry may try again

    async def measure(self, kept: list[Checkpoint]) -> dict[str, int]:
        """Memory that each kept state holds by itself, in bytes, by id; 0 where it can't be known."""
        pids = {entry.id: entry.state.guest.pid for entry in kept if entry.state is not None}
        sizes = await asyncio.gather(*(asyncio.to_thread(pidfds.private_bytes, pid) for pid in pids.values()))
        return dict(zip(pids, sizes, strict=True))

    async def fork(
        self, origin: Sandbox, *, count: int, checkpoint_id: str, idle_timeout: timedelta | None
    ) -> list[Sandbox]:
        """`count` sandboxes that begin where `origin` stands, or at a kept state. All or none."""
        self._registry.require_room(count)
        async with _turn(origin):
            if checkpoint_id:
                base = _find(origin, StateName(checkpoint_id=checkpoint_id))
            else:
                base = await origin.session.keep_for_use()
            branches = [self._branch(origin, idle_timeout) for _ in range(count)]
            async with self._registry.making(branches), _in_use(branches):
                await self._fill(branches, base)
        return branches

    async def name_state(self, sandbox: Sandbox, name: str) -> Checkpoint:
        """Keeps the state as it stands under `name` until it is dropped."""
        async with _turn(sandbox):
            ring = sandbox.session.states.ring
            if ring.by_name(name) is None and ring.named_count >= MOST_NAMED:
                raise Exhausted(resource="named checkpoints", limit=MOST_NAMED)
            await sandbox.session.keep_for_use()
            return ring.name_current(name)

    def drop(self, sandbox: Sandbox, which: StateName) -> Checkpoint:
        """Forgets a kept state. Needs no turn: nothing of the session changes."""
        found = _find(sandbox, which)
        sandbox.session.states.drop(found)
        return found

    async def rewind(self, sandbox: Sandbox, which: StateName) -> Rewound:
        """Makes a kept state the session again; the state that is left stays kept."""
        if sandbox.busy:
            raise SandboxBusy(problem="an execution runs or waits in this sandbox; cancel it or wait")
        async with _turn(sandbox):
            target = _find(sandbox, which)
            left = await sandbox.session.rewind(target)
            return Rewound(restored=target, left=left)

    def _branch(self, origin: Sandbox, idle_timeout: timedelta | None) -> Sandbox:
        spec = origin.spec
        if idle_timeout is not None:
            spec = replace(spec, limits=replace(spec.limits, idle_timeout=idle_timeout))
        sandbox_id = new_sandbox_id()
        branch = Sandbox(
            sandbox_id=sandbox_id,
            owner=origin.owner,
            user_id=origin.user_id,
            spec=spec,
            supervisor=self._supervisor,
            directory=f"{_BRANCH_DIRECTORY}/{sandbox_id}",
        )
        branch.family_id = origin.family_id
        branch.origin_id = origin.id
        return branch

    async def _fill(self, branches: list[Sandbox], base: Checkpoint) -> None:
        state = base.state
        if state is None:  # the fresh session: every new guest is in that state
            for branch in branches:
                await branch.session.start()
            return
        state.hold()
        try:
            limit = asyncio.Semaphore(_RESTORES_AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for branch in branches:
                    group.create_task(_begin(branch, base, state, limit))
        except* SandboxdError as errors:
            error = _first(errors)
            if isinstance(error, CopyFailed):
                raise NotBranchable(problem=f"the session could not be copied: {error}") from error
            raise error from None
        finally:
            state.release()


async def _begin(branch: Sandbox, base: Checkpoint, state: ParkedState, limit: asyncio.Semaphore) -> None:
    async with limit:
        guest = await branch.session.copy_of(state)
    own = Checkpoint(
        state=state.hold(),
        after_execution_id=base.after_execution_id,
        after_execution_number=base.after_execution_number,
    )
    branch.session.adopt(guest, own)


def _first(errors: BaseExceptionGroup[SandboxdError]) -> SandboxdError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _find(sandbox: Sandbox, which: StateName) -> Checkpoint:
    ring = sandbox.session.states.ring
    if which.checkpoint_id:
        found = ring.by_id(which.checkpoint_id)
    elif which.name:
        found = ring.by_name(which.name)
    elif which.before_execution_id:
        found = ring.before_execution(which.before_execution_id)
    else:
        found = ring.before_number(which.before_number)
    if found is None or not found.alive:
        raise CheckpointNotFound(id=which.text)
    return found


@asynccontextmanager
async def _in_use(branches: list[Sandbox]) -> AsyncIterator[None]:
    """Their idle time begins when they are ready: one could else expire while the others are made."""
    async with AsyncExitStack() as stack:
        for branch in branches:
            await stack.enter_async_context(branch.turn)
        yield
        for branch in branches:
            branch.touch()


@asynccontextmanager
async def _turn(sandbox: Sandbox) -> AsyncIterator[None]:
    """The right to use the session; `SandboxBusy` when an execution does not end in time."""
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            await sandbox.turn.acquire()
    except TimeoutError:
        raise SandboxBusy() from None
    try:
        sandbox.require_active()
        sandbox.touch()
        yield
    finally:
        sandbox.turn.release()
