"""Where SIGINT may strike: user code, and nowhere else.

The host interrupts an execution with SIGINT, and it may arrive at any instruction: in user code, in our
own formatting of its result, between two executions. KeyboardInterrupt is raised only when the
interrupted instruction belongs to user code: one of its frames, or anything called through
`run_interruptible`. Elsewhere the signal is only noted. So no instruction of ours can be torn in two,
and no loop of ours needs to expect a KeyboardInterrupt.
"""

import _signal  # type: ignore[import-not-found]  # without the enumerations of `signal`: every execution begins here
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

_T = TypeVar("_T")


def run_interruptible(function: Callable[[], _T]) -> _T:
    """Calls `function`; a SIGINT meanwhile raises KeyboardInterrupt inside it, never in this frame."""
    return function()


def run_shielded(function: Callable[[], _T]) -> _T:
    """Calls `function`, which no SIGINT interrupts even when user code is what called it."""
    return function()


_SIGINT_ALONE = (_signal.SIGINT,)
_INTERRUPTIBLE: CodeType = run_interruptible.__code__
_SHIELDED: CodeType = run_shielded.__code__


class Interrupts:
    """The SIGINT handler of a guest. `namespace` is how user frames are told: it is their globals."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self.pending = False
        """A SIGINT came while it could not be raised."""
        self.came = False
        """A SIGINT came since the execution began."""

    def install(self) -> None:
        """Makes this the handler and lets the signal through, whatever user code did to either."""
        _signal.signal(_signal.SIGINT, self._on_sigint)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _SIGINT_ALONE)

    def raise_pending(self) -> None:
        """Raises what a shield held back; only user code's callees call it."""
        if self.pending and threading.current_thread() is threading.main_thread():
            self.pending = False
            raise KeyboardInterrupt

    def _on_sigint(self, _signum: int, frame: FrameType | None) -> None:
        self.came = True
        if self._strikes_user_code(frame):
            raise KeyboardInterrupt
        self.pending = True

    def _strikes_user_code(self, frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code in _HANDLER:
            frame = frame.f_back  # a SIGINT that interrupted the handling of another
        if frame is not None and frame.f_code is _INTERRUPTIBLE:
            return False  # on its way in or out, where nobody would catch it
        while frame is not None:
            if frame.f_code is _SHIELDED:
                return False
            # A user frame without the marker below it is a finaliser; its exception goes nowhere.
            if frame.f_code is _INTERRUPTIBLE or frame.f_globals is self._namespace:
                return True
            frame = frame.f_back
        return False


_HANDLER = (Interrupts._on_sigint.__code__, Interrupts._strikes_user_code.__code__)
