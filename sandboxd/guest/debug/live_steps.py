"""Folds steps as the recorder has them, before they are encoded."""

from collections.abc import Iterable
from typing import Any

from sandboxd.guest.debug.batch_reader import FrameRow, RowChange, read_change
from sandboxd.guest.debug.differ import INTEGER, OTHER
from sandboxd.guest.debug.folding import Folded, FoldedFrame, StepRow
from sandboxd.guest.debug.frames import FrameState
from sandboxd.guest.debug.steps import MANY_CHANGES, NO_CHANGE, Rows
from sandboxd.guest.debug.wire import varint, zigzag


def open_live(state: Folded, frames: Iterable[FrameState]) -> None:
    """Adds frames that `state` does not have yet."""
    for frame in frames:
        if frame.number not in state.frames:
            caller = frame.caller.number if frame.caller is not None else 0
            row = FrameRow(code=frame.plan.number, caller=caller, depth=frame.depth, thread=frame.thread)
            state.frames[frame.number] = FoldedFrame(row=row)


def live_row(step: Rows, number: int, state: Folded, *, start_ns: int) -> StepRow:
    """The recorder's step as one that was read back; `state` is the one before it, `start_ns` when its clock
    began."""
    line, event, place, name, value, now, result, written = step
    frame, depth, thread = place
    return StepRow(
        step=number,
        line=line,
        event=event,
        frame=frame,
        depth=depth,
        thread=thread,
        changes=_row_changes(name, value),
        result=result,
        elapsed_ns=max(now - start_ns - state.elapsed_ns, 0),
        stdout_bytes=max(written - state.stdout_bytes, 0),
    )


def _row_changes(name: int, value: Any) -> list[RowChange]:
    if name == NO_CHANGE:
        return []
    if name != MANY_CHANGES:
        return [(name, b"\x18" + varint(zigzag(value)), None, False)]
    found: list[RowChange] = []
    for each, kind, content in value:
        if kind == INTEGER:
            found.append((each, b"\x18" + varint(zigzag(content)), None, False))
        elif kind == OTHER:
            found.append(read_change(each, content))
        else:
            found.append((each, None, None, False))
    return found
