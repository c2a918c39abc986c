"""The stream of FULL detail: each step complete by itself."""

import time
from collections.abc import Callable

from sandboxd.guest.debug.batch_reader import FrameRow, RowChange, read_change
from sandboxd.guest.debug.differ import INTEGER, OTHER
from sandboxd.guest.debug.folding import Folded, FoldedFrame, StepRow, fold_row, replaced_by
from sandboxd.guest.debug.full_steps import StepWriter
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.steps import Step
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

    def take(self, steps: list[Step]) -> None:
        """Sends the steps, some in one go."""
        recorder = self._recorder
        for frame in recorder.frames:
            caller = frame.caller.number if frame.caller is not None else 0
            facts = FrameRow(code=frame.plan.number, caller=caller, depth=frame.depth, thread=frame.thread)
            self._state.frames[frame.number] = FoldedFrame(row=facts)
        writer = StepWriter(
            names=list(recorder.names),
            codes=recorder.codes,
            max_variables=recorder.options.values.max_variables,
        )
        payloads: list[bytes] = []
        size = 0
        for step in steps:
            row = self._row(step)
            before = replaced_by(self._state, row)
            fold_row(self._state, row)
            payloads.append(writer.full_step(self._state, row, before))
            size += len(payloads[-1])
            if len(payloads) >= _MAX_PAYLOADS or size > _MAX_BYTES:
                self._send(payloads)
                payloads, size = [], 0
        if payloads:
            self._send(payloads)

    def _row(self, step: Step) -> StepRow:
        line, event, frame, depth, changes, now, result, written = step
        found: list[RowChange] = []
        for name, kind, content in changes or ():
            if kind == INTEGER:
                found.append((name, b"\x18" + varint(zigzag(content)), None, False))
            elif kind == OTHER:
                found.append(read_change(name, content))
            else:
                found.append((name, None, None, False))
        row = StepRow(
            step=self._next_step,
            line=line,
            event=event,
            frame=frame.number,
            depth=depth,
            thread=frame.thread,
            changes=found,
            result=result,
            elapsed_ns=max(now - self._last_ns, 0),
            stdout_bytes=max(written - self._last_stdout, 0),
        )
        self._next_step += 1
        self._last_ns, self._last_stdout = now, written
        return row
