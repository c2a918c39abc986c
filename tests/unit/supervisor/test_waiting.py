"""The first of several futures, or the time: nothing of the waiting is left behind."""

import asyncio

import pytest

from sandboxd.supervisor.waiting import first_of


def _futures() -> tuple[asyncio.Future[int], asyncio.Future[int]]:
    loop = asyncio.get_running_loop()
    return loop.create_future(), loop.create_future()


async def test_first_result_ends_the_wait_and_leaves_the_other_future() -> None:
    first, second = _futures()
    asyncio.get_running_loop().call_soon(second.set_result, 2)
    await first_of(first, second)
    assert (first.done(), second.result()) == (False, 2)


async def test_exception_ends_the_wait_and_is_not_raised() -> None:
    first, second = _futures()
    asyncio.get_running_loop().call_soon(first.set_exception, ValueError("no"))
    await first_of(first, second)
    assert isinstance(first.exception(), ValueError)


async def test_time_ends_the_wait_with_nothing_done() -> None:
    first, second = _futures()
    await first_of(first, second, seconds=0.01)
    assert not first.done()
    assert not second.done()


async def test_future_that_is_done_already_ends_the_wait_at_once() -> None:
    first, second = _futures()
    first.set_result(1)
    waiting = asyncio.ensure_future(first_of(first, second))
    await asyncio.sleep(0)
    assert waiting.done()


async def test_cancelled_wait_cancels_no_future() -> None:
    first, second = _futures()
    waiting = asyncio.ensure_future(first_of(first, second, seconds=60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not first.cancelled()
    assert not second.cancelled()
