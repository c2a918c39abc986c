"""The stream of FULL detail: each step complete by itself."""

import time
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.batch_reader import FrameRow, RowChange, read_change
from sandboxd.guest.debug.differ import INTEGER, OTHER
from sandboxd.guest.debug.folding import Folded, FoldedFrame, StepRow, fold_row, replaced_by
from sandboxd.guest.debug.full_steps import StepWriter
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.steps import MANY_CHANGES, NO_CHANGE, ROW, Rows
from sandboxd.guest.debug.wire import varint, zigzag

_MAX_PAYLOADS = 64
_MAX_BYTES = 256 * 1024


class FullStream:
    """Folds the steps as they come and writes each of them out."""

    def __init__(self, recorder: Recorder, send: Callable[[list[bytes]], None]) -> None:
        self._recorder = recorder
        self._send = send
        self._state = Folded()
        self._next_step = 1
        self._last_ns = time.perf_counter_ns()
        self._last_stdout = 0
        self._written: dict[Any, bytes] = {}

    def take(self, rows: Rows) -> None:
        """Sends the steps, some in one go."""
        recorder = self._recorder
        for frame in recorder.tracking.new_frames:
            caller = frame.caller.number if frame.caller is not None else 0
            facts = FrameRow(code=frame.plan.number, caller=caller, depth=frame.depth, thread=frame.thread)
            self._state.frames[frame.number] = FoldedFrame(row=facts)
        writer = StepWriter(
            names=list(recorder.names),
            codes=recorder.tracking.codes,
            max_variables=recorder.options.values.max_variables,
            written=self._written,
        )
        payloads: list[bytes] = []
        size = 0
        for start in range(0, len(rows), ROW):
            row = self._row(rows[start : start + ROW])
            before = replaced_by(self._state, row)
            fold_row(self._state, row)
            payloads.append(writer.full_step(self._state, row, before))
            size += len(payloads[-1])
            if len(payloads) >= _MAX_PAYLOADS or size > _MAX_BYTES:
                self._send(payloads)
                payloads, size = [], 0
        if payloads:
            self._send(payloads)

    def _row(self, step: Rows) -> StepRow:
        line, event, place, name, value, now, result, written = step
        number, depth, thread = place
        row = StepRow(
            step=self._next_step,
            line=line,
            event=event,
            frame=number,
            depth=depth,
            thread=thread,
            changes=_row_changes(name, value),
            result=result,
            elapsed_ns=max(now - self._last_ns, 0),
            stdout_bytes=max(written - self._last_stdout, 0),
        )
        self._next_step += 1
        self._last_ns, self._last_stdout = now, written
        return row


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
