"""Exactly once: whether a request id is new, and if not, what it stands for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from sandboxd.errors import RequestIdReused
from sandboxd.store.records import ExecutionRecord, SandboxRecord
from sandboxd.store.seen import SeenRequests

Record = TypeVar("Record", SandboxRecord, ExecutionRecord)


class RequestIds(Generic[Record]):
    """The request ids of one kind of record. Whoever makes a record does so inside `deciding`."""

    def __init__(
        self,
        *,
        pending: Callable[[str, str], Record | None],
        stored: Callable[[str, str], Awaitable[Record | None]],
    ) -> None:
        self._pending: Callable[[str, str], Record | None] = pending
        self._stored: Callable[[str, str], Awaitable[Record | None]] = stored
        self._deciding: dict[tuple[str, str], list[asyncio.Event]] = {}
        self.seen = SeenRequests()

    @asynccontextmanager
    async def deciding(
        self, owner: str, request_id: str, fingerprint: bytes | None
    ) -> AsyncIterator[Record | None]:
        """Give the record that came first with the same request id, or None for a new one.

        Nobody else decides about the same id meanwhile, so what the block appends can't be made twice.
        Raises RequestIdReused when the id came with another request.
        """
        key = (owner, request_id)
        await self._take_turn(key)
        try:
            first = await self._find(*key)
            if first is not None and first.request_fingerprint != fingerprint:
                raise RequestIdReused
            yield first
            if first is None:
                self.seen.add(*key)
        finally:
            self._end_turn(key)

    async def _find(self, owner: str, request_id: str) -> Record | None:
        pending = self._pending(owner, request_id)
        if pending is not None:
            return pending
        if not self.seen.may_contain(owner, request_id):
            return None
        return await self._stored(owner, request_id)

    async def _take_turn(self, key: tuple[str, str]) -> None:
        if key not in self._deciding:
            self._deciding[key] = []
            return
        turn = asyncio.Event()
        self._deciding[key].append(turn)
        try:
            await turn.wait()
        except asyncio.CancelledError:
            if turn.is_set():
                self._end_turn(key)
            else:
                self._deciding[key].remove(turn)
            raise

    def _end_turn(self, key: tuple[str, str]) -> None:
        waiting = self._deciding[key]
        if waiting:
            waiting.pop(0).set()
        else:
            del self._deciding[key]
