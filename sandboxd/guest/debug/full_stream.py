"""The stream of FULL detail: each step complete by itself."""

import time
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.folding import Folded, fold_row, replaced_by
from sandboxd.guest.debug.full_steps import StepWriter
from sandboxd.guest.debug.live_steps import live_row, open_live
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.steps import ROW, Rows

_MAX_PAYLOADS = 64
_MAX_BYTES = 256 * 1024


class FullStream:
    """Folds the steps as they come and writes each of them out."""

    def __init__(self, recorder: Recorder, send: Callable[[list[bytes]], None]) -> None:
        self._recorder = recorder
        self._send = send
        self._state = Folded()
        self._next_step = 1
        self._start_ns = time.perf_counter_ns()
        self._written: dict[Any, bytes] = {}

    def take(self, rows: Rows) -> None:
        """Sends the steps, some in one go."""
        recorder = self._recorder
        open_live(self._state, recorder.tracking.new_frames)
        writer = StepWriter(
            names=list(recorder.names),
            codes=recorder.tracking.codes,
            max_variables=recorder.options.values.max_variables,
            written=self._written,
        )
        payloads: list[bytes] = []
        size = 0
        for start in range(0, len(rows), ROW):
            step = rows[start : start + ROW]
            row = live_row(step, self._next_step, self._state, start_ns=self._start_ns)
            self._next_step += 1
            before = replaced_by(self._state, row)
            fold_row(self._state, row)
            payloads.append(writer.full_step(self._state, row, before))
            size += len(payloads[-1])
            if len(payloads) >= _MAX_PAYLOADS or size > _MAX_BYTES:
                self._send(payloads)
                payloads, size = [], 0
        if payloads:
            self._send(payloads)
