"""What a step is inside the guest, and who takes steps."""

import types
from typing import Any, Protocol

from sandboxd.guest.debug.differ import Change
from sandboxd.guest.debug.frames import FrameState

Step = tuple[int, int, FrameState, "list[Change] | None", "bytes | None", int]
"""Line, event, frame, changes, picture of the result, bytes written to stdout: what a stop is decided by."""

Rows = list[Any]
"""Steps one behind the other in one flat list: no object a step, and columns are slices."""
(
    LINE_AT,
    EVENT_AT,
    PLACE_AT,
    NAME_AT,
    VALUE_AT,
    TIME_AT,
    RESULT_AT,
    STDOUT_AT,
) = range(8)
"""Line, event, `FrameState.place`, name, value, time in ns, picture of the result or None, bytes written to
stdout. Name and value are those of the one integer that changed; NO_CHANGE and None; or MANY_CHANGES and
a list of changes."""
ROW = 8
"""Entries of one step."""
NO_CHANGE = 0
MANY_CHANGES = -1


class Sink(Protocol):
    """Takes steps in order."""

    def take(self, rows: Rows) -> None:
        """Takes the next steps."""


class Control(Protocol):
    """Decides at each step whether the program stops there."""

    def at_step(self, step: Step, frame: types.FrameType) -> None:
        """Called after a step was recorded, before its line runs."""

    @property
    def awaits_exceptions(self) -> bool:
        """Whether an exception may be a stop."""

    def stops_at_exception(self, frame: types.FrameType) -> bool:
        """Called for an exception while only statements are watched; whether the program stops there."""

    def hits(self, line: int, label: str, frame: types.FrameType) -> bool:
        """Called for a statement that is watched alone; whether the program stops there."""
