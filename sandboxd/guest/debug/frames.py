"""What the recorder remembers of a frame and of a thread between two steps."""

import threading
import types
from typing import Any

from sandboxd.guest.debug.changes import Mark
from sandboxd.guest.debug.plan import CodePlan


class _Missing:
    """Stands for a variable that is not bound."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<unbound>"


MISSING = _Missing()


class FrameState:
    """One call of user code. Holds no reference to the frame: that would keep its objects alive."""

    __slots__ = (
        "activity", "address", "caller", "depth", "line_seen", "number", "plan", "raw_line", "resumed",
        "skipped", "snap", "statement", "step", "thread", "thrown", "watch",
    )  # fmt: skip

    def __init__(
        self,
        *,
        number: int,
        plan: CodePlan,
        address: int,
        caller: "FrameState | None",
        depth: int,
        thread: int,
    ) -> None:
        self.number = number
        self.plan = plan
        self.address = address
        self.caller = caller
        self.depth = depth
        self.thread = thread
        self.snap: dict[str, Any] = {}
        """Known variables: objects of plain types themselves, a Mark for all others."""
        self.watch: list[str] = []
        """Names to look at; only for a module's frame, whose variables are the session's."""
        self.statement = 0
        self.raw_line = 0
        self.step = 0
        self.activity = -1
        """Value of the recorder's activity counter at this frame's last step."""
        self.resumed = False
        """The next event may repeat the line of the suspension."""
        self.thrown = False
        """Resumed by an exception, and no line has run since."""
        self.skipped = True
        """Statements ran since the last diff that left no step: anything may have changed."""


class ThreadState(threading.local):
    """The stack of user frames of the current thread."""

    def __init__(self) -> None:
        self.stack: list[FrameState] = []
        self.number = 0
        """Counted from 1; 0 until the thread is met."""


def is_hidden_name(name: str) -> bool:
    """Whether a variable is the language's own, such as `__module__`."""
    return (name[:2] == "__" and name != "__result__") or name[:1] == "<"


def is_hidden_value(value: Any) -> bool:
    """Whether a variable is shown to nobody: imported modules say nothing about a step."""
    return type(value) is types.ModuleType


__all__ = ["MISSING", "FrameState", "Mark", "ThreadState", "is_hidden_name", "is_hidden_value"]
