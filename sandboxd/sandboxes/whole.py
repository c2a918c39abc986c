"""Steps of a session that are done whole although whoever asked for them goes away in the middle."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def whole(step: Coroutine[Any, Any, _T]) -> _T:
    """Does `step` to its end, also when the caller is cancelled meanwhile, who then waits for it: half done,
    a process would be left that nobody knows. The cancellation goes on afterwards."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
