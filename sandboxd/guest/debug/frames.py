"""What the recorder remembers of a frame and of a thread between two steps."""

import threading
import types
from collections.abc import Sequence
from typing import Any

from sandboxd.guest.debug.changes import Mark
from sandboxd.guest.debug.libraries import no_print
from sandboxd.guest.debug.plan import CodePlan
from sandboxd.guest.debug.scopes import is_hidden_name


class _Missing:
    """Stands for a variable that is not bound."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<unbound>"


MISSING = _Missing()
NEVER = -1
"""No activity counter ever has this value."""


class FrameState:
    """One call of user code. Holds no reference to the frame: that would keep its objects alive."""

    __slots__ = (
        "activity", "address", "caller", "depth", "described", "looked_at", "number", "place", "plan",
        "quick", "raw_line", "resumed", "skipped", "snap", "statement", "statement_of", "thread", "thrown",
        "variables", "watch",
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
        variables: dict[str, Any] | None = None,
    ) -> None:
        self.number = number
        self.plan = plan
        self.address = address
        self.caller = caller
        self.depth = depth
        self.thread = thread
        self.place = (number, depth, thread)
        """As steps tell it; a generator may go on at another depth."""
        self.variables = variables
        """The module's dict; None for a function, whose variables are asked of the frame."""
        self.snap: dict[str, Any] = {}
        """Known variables: objects of plain types themselves, a Mark for all others."""
        self.described: dict[str, Mark] = {}
        """The marks of objects without parts that may change; one that has left `snap` counts for nothing."""
        self.watch: list[str] = []
        """Names to look at; only for a module's frame, whose variables are the session's."""
        self.looked_at: dict[int, tuple[str, ...]] = plan.stores
        """By statement: the names it may have bound, where nothing else can have changed."""
        self.statement_of: Sequence[int] = plan.statement_of
        self.statement = 0
        self.raw_line = 0
        self.activity = NEVER
        """Value of the recorder's activity counter at this frame's last step."""
        self.quick = NEVER
        """The same where the next line may be recorded the quick way."""
        self.resumed = False
        """The next event may repeat the line of the suspension."""
        self.thrown = False
        """Resumed by an exception, and no line has run since."""
        self.skipped = True
        """Statements ran since the last diff that left no step: anything may have changed."""

    def found_object(self, name: str, mark: Mark) -> None:
        """A variable holds an object that calls may change."""
        if mark.print_of is None:
            self.looked_at = self.plan.quiet_stores  # how its parts change is not told the quick way
        elif mark.print_of is not no_print:
            self.described[name] = mark


class ThreadState(threading.local):
    """The stack of user frames of the current thread."""

    def __init__(self) -> None:
        self.stack: list[FrameState] = []
        self.number = 0
        """Counted from 1; 0 until the thread is met."""


def is_hidden_value(value: Any) -> bool:
    """Whether a variable is shown to nobody: imported modules say nothing about a step."""
    return type(value) is types.ModuleType


__all__ = ["MISSING", "NEVER", "FrameState", "Mark", "ThreadState", "is_hidden_name", "is_hidden_value"]
