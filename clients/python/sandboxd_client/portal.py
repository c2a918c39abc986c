"""One event loop in a background thread, and methods of async objects as blocking ones."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
_W = TypeVar("_W")
_A = TypeVar("_A")


class Portal:
    """The loop that all blocking objects share; started at the first use, ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, _R]) -> _R:
        """Waits for `work`; an interrupt of this thread cancels it."""
        future: Future[_R] = asyncio.run_coroutine_threadsafe(work, self._running_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="sandboxd-client", daemon=True).start()
            return self._loop


PORTAL = Portal()


class Blocking(Generic[_A]):
    """A blocking face of an async object."""

    def __init__(self, inner: _A) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return repr(self._inner)


async def _awaited(thing: Awaitable[_R]) -> _R:
    return await thing


def blocking(
    method: Callable[Concatenate[_A, _P], Awaitable[_R]],
) -> Callable[Concatenate[Blocking[_A], _P], _R]:
    """`method` of the async object as a method of its blocking face."""

    def call(face: Blocking[_A], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        async def start() -> _R:
            return await method(face._inner, *args, **kwargs)  # the face is ours

        return PORTAL.run(start())

    call.__doc__, call.__name__ = method.__doc__, method.__name__
    return call


def blocking_as(
    method: Callable[Concatenate[_A, _P], Awaitable[_R]], wrap: Callable[[_R], _W]
) -> Callable[Concatenate[Blocking[_A], _P], _W]:
    """As `blocking`, what comes back being wrapped in a blocking face of its own."""
    plain = blocking(method)

    def call(face: Blocking[_A], /, *args: _P.args, **kwargs: _P.kwargs) -> _W:
        return wrap(plain(face, *args, **kwargs))

    call.__doc__, call.__name__ = method.__doc__, method.__name__
    return call


def blocking_iterator(
    method: Callable[Concatenate[_A, _P], AsyncIterator[_R]],
) -> Callable[Concatenate[Blocking[_A], _P], Iterator[_R]]:
    """As `blocking`, for methods that give one thing after the other."""

    def call(face: Blocking[_A], /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_R]:
        things = method(face._inner, *args, **kwargs)  # the face is ours
        try:
            while True:
                try:
                    yield PORTAL.run(_awaited(anext(things)))
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(things, "aclose", None)
            if close is not None:
                PORTAL.run(close())

    call.__doc__, call.__name__ = method.__doc__, method.__name__
    return call
