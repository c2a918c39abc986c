"""Answers with large results are built beside the event loop: everybody else would wait for them."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

_T = TypeVar("_T")

_LARGE_BYTES = 128 * 1024
"""Takes some 20 ms at worst; below it, going to a thread would cost more than it saves."""


async def built(build: Callable[[], _T], *, size: int) -> _T:
    """What `build` makes of about `size` bytes."""
    return await asyncio.to_thread(build) if size >= _LARGE_BYTES else build()


def size_of(said: object) -> int:
    """Bytes of what a guest said; little work beside building an answer of it."""
    return len(msgspec.msgpack.encode(said))
