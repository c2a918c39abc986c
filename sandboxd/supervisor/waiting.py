"""Waiting for the first of several futures: what asyncio.wait does too, with three times the work."""

import asyncio
from typing import Any


async def first_of(*futures: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Returns once one of `futures` is done, or `seconds` have passed; leaves all of them as they are.

    Every execution waits this way, and every kept state.
    """
    if any(future.done() for future in futures):
        return
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    timer = loop.call_later(seconds, end) if seconds is not None else None
    for future in futures:
        future.add_done_callback(end)
    try:
        await over
    finally:
        if timer is not None:
            timer.cancel()
        for future in futures:
            future.remove_done_callback(end)
