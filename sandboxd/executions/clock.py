"""The time limit of a run, which stands still while a debug session holds the program."""

import asyncio
import time
from collections.abc import Callable


def _nothing() -> None:
    """In place of what a run that is over would do."""


def _none_spent() -> float:
    return 0.0


_LOOK_SECONDS = 1.0


class RunClock:
    """Calls `expire` when the time that was not held has passed.

    A program that is held does nothing: CPU time that it uses meanwhile (`spent` tells it, in seconds)
    counts, for it may only say that it stands still.
    """

    def __init__(self, seconds: float, expire: Callable[[], None], *, spent: Callable[[], float]) -> None:
        self._left = seconds
        self._expire = expire
        self._spent = spent
        self._spent_before = 0.0
        """CPU time when it was held."""
        self._look_timer: asyncio.TimerHandle | None = None
        self._holds = 0
        self._running_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def remaining_seconds(self) -> float:
        """What is left."""
        running = time.perf_counter() - self._running_since if self._timer is not None else 0.0
        return max(self._left - running, 0.0)

    def start(self) -> None:
        """The time begins to run."""
        self.stop()
        self._running_since = time.perf_counter()
        self._timer = asyncio.get_running_loop().call_later(self._left, self._expire)

    def hold(self) -> None:
        """Stands still until as many releases."""
        self._holds += 1
        if self._timer is not None:
            self._left = self.remaining_seconds
            self.stop()
            self._spent_before = self._spent()
            self._look_later()

    def release(self) -> None:
        """Takes one hold back."""
        self._holds -= 1
        if self._holds == 0 and self._timer is None:
            self._left = max(self._left - self._spent_while_held(), 0.0)
            self.start()

    def end(self) -> None:
        """Nothing expires any more, and what would have been told is let go."""
        self.stop()
        self._expire, self._spent = _nothing, _none_spent

    def stop(self) -> None:
        """Nothing expires until the next start."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None

    def _spent_while_held(self) -> float:
        return max(self._spent() - self._spent_before, 0.0)

    def _look_later(self) -> None:
        self._look_timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if self._spent_while_held() >= self._left:
            self._expire()
        else:
            self._look_later()
