"""The two ways to be told of lines: sys.monitoring from CPython 3.12 on, sys.settrace before."""

import sys
import types
from typing import Protocol

from sandboxd.guest.debug.recorder import Recorder


class Hook(Protocol):
    """Tells a recorder what user code does, between `start` and `stop`."""

    engine: str
    """Name for people: "sys.monitoring" or "sys.settrace"."""

    def start(self) -> None:
        """Begins to watch; in the thread that runs user code."""

    def watch(self, code: types.CodeType) -> None:
        """Expects `code` to run, and the code in it."""

    def stop(self) -> None:
        """Ends it; notes whether something else had ended it before."""

    @property
    def interrupted(self) -> bool:
        """Whether user code removed or replaced the hook."""


def make_hook(recorder: Recorder) -> Hook:
    """The best hook this interpreter has."""
    if sys.version_info >= (3, 12):
        from sandboxd.guest.debug.monitoring import MonitoringHook

        return MonitoringHook(recorder)
    from sandboxd.guest.debug.settrace import SettraceHook

    return SettraceHook(recorder)
