"""A call whose outcome may be awaited, or entered as a context that cleans up after itself."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

_T = TypeVar("_T", bound=AbstractAsyncContextManager[Any])


class Pending(Awaitable[_T], AbstractAsyncContextManager[_T], Generic[_T]):
    """`await pending` gives the object; `async with pending as it` also closes it at the end."""

    def __init__(self, start: Callable[[], Awaitable[_T]]) -> None:
        self._start = start
        self._opened: _T | None = None

    def __await__(self) -> Generator[Any, None, _T]:
        return self._start().__await__()

    async def __aenter__(self) -> _T:
        self._opened = await self._start()
        entered: _T = await self._opened.__aenter__()
        return entered

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._opened is not None
        return await self._opened.__aexit__(kind, error, trace)
