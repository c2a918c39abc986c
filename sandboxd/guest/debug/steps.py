"""What a step is inside the guest, and who takes steps."""

import types
from typing import Protocol

from sandboxd.guest.debug.differ import Change
from sandboxd.guest.debug.frames import FrameState

Step = tuple[int, int, FrameState, int, "list[Change] | None", int, "bytes | None", int]
"""Line, event, frame, depth, changes, time in ns, picture of the result, bytes written to stdout."""


class Sink(Protocol):
    """Takes steps in order."""

    def take(self, steps: list[Step]) -> None:
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
