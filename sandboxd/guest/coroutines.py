"""Top-level await: one event loop for each execution, and nothing of it left afterwards."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from sandboxd.guest.interrupts import run_interruptible

_FAREWELL_SECONDS = 1.0
"""How long tasks and async generators may take to end once they are told to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended: by itself, or by an exception."""

    error: BaseException | None = None
    suspended: tuple[tuple[FrameType, int], ...] = ()
    """Where the program waited when it was interrupted in the event loop: frames and lines, outermost
    first."""
    cancelled_tasks: int = 0
    """Tasks that were left pending."""


@dataclass(slots=True)
class _Ending:
    error: BaseException | None = None
    suspended: tuple[tuple[FrameType, int], ...] = field(default=())


def run_coroutine(start: Callable[[], Coroutine[Any, Any, Any]]) -> Outcome:
    """Runs the coroutine that `start` makes to its end, then ends whatever else it left in the loop."""
    loop = asyncio.new_event_loop()
    ending = _run_main(loop, start)
    leftovers = [task for task in asyncio.all_tasks(loop) if not task.done()]
    main_pending = sum(1 for task in leftovers if task.get_name() == _MAIN_TASK)
    for close in (lambda: _cancel(loop, leftovers), lambda: _close_generators(loop), loop.close):
        try:
            run_interruptible(close)
        except BaseException:  # noqa: S112  the program has ended; its leftovers may do what they want
            continue
    return Outcome(
        error=ending.error,
        suspended=ending.suspended,
        cancelled_tasks=len(leftovers) - main_pending,
    )


_MAIN_TASK = "main program"


def _run_main(loop: asyncio.AbstractEventLoop, start: Callable[[], Coroutine[Any, Any, Any]]) -> _Ending:
    ending = _Ending()
    program = start()
    task = loop.create_task(program, name=_MAIN_TASK)
    try:
        run_interruptible(lambda: loop.run_until_complete(task))
    except BaseException as error:
        ending.error = error
        if not task.done():
            ending.suspended = _await_chain(program)
    return ending


def _await_chain(coroutine: Any) -> tuple[tuple[FrameType, int], ...]:
    """Frames of a suspended coroutine and of what it waits for, as far as they are plain coroutines."""
    chain: list[tuple[FrameType, int]] = []
    while coroutine is not None and len(chain) < 100:
        frame = getattr(coroutine, "cr_frame", None)
        if not isinstance(frame, FrameType):
            break
        chain.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None)
    return tuple(chain)


def _cancel(loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_FAREWELL_SECONDS))
    for task in tasks:
        if task.done():
            _ = task.cancelled() or task.exception()  # seen, so asyncio does not complain about it
        else:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # nor about one that stays


def _close_generators(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), _FAREWELL_SECONDS))
