"""A recorded trace: encoded batches, bounded, and the way back to the state at any step."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sandboxd.guest.debug.batch_reader import FrameRow, read_batch
from sandboxd.guest.debug.changes import Mark
from sandboxd.guest.debug.differ import OTHER
from sandboxd.guest.debug.encoder import BatchEncoder
from sandboxd.guest.debug.folding import (
    Folded,
    FoldedFrame,
    StepRow,
    fold_columns,
    fold_row,
    make_row,
    open_frames,
    replaced_by,
    rows_of,
)
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.steps import (
    MANY_CHANGES,
    NAME_AT,
    RESULT_AT,
    ROW,
    STDOUT_AT,
    TIME_AT,
    VALUE_AT,
    Rows,
)
from sandboxd.guest.debug.values import Renderer, ValueLimits

_KEYFRAME_STEPS = 1000
_MAX_PAYLOAD_BYTES = 256 * 1024
"""About the longest batch; a single step may be longer."""
_KEYFRAME_BYTES_A_VARIABLE = 120
_scalars = Renderer(ValueLimits())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    first_step: int
    first_frame: int
    payload: bytes
    keyframe: Folded | None
    size: int
    """Bytes of both, about."""


class Trace:
    """Takes steps from the recorder, sends them on, keeps them within a bound and reads them back."""

    def __init__(
        self, *, max_bytes: int, send: Callable[[bytes, int], None] | None = None, keep: bool = True
    ) -> None:
        self.recorder: Recorder | None = None
        self.executable_lines: frozenset[int] = frozenset()
        self.source_text = ""
        self._max_bytes = max_bytes
        self._send = send
        self._keep = keep
        self.start_ns = time.perf_counter_ns()
        """When the clock of its steps began."""
        self._encoder = BatchEncoder(start_ns=self.start_ns)
        self._batches: list[_Kept] = []
        self._bytes = 0
        self._total = 0
        self._frames_met = 0
        self._since_keyframe = 0
        self._next_keyframe: Folded | None = None
        self.dropped_steps = 0
        """Steps at the start that are no longer kept."""

    def take(self, rows: Rows) -> None:
        """Encodes steps, keeps them and sends them on, in batches that a message can hold."""
        recorder = self.recorder
        assert recorder is not None
        heavy = recorder.differ.take_picture_bytes() > _MAX_PAYLOAD_BYTES
        parts = _message_sized(rows) if heavy else [rows]
        for part in parts:
            self._take(recorder, part, is_last=part is parts[-1])

    def catch_up(self) -> None:
        """Takes the steps that the recorder still has; before anything is read."""
        if self.recorder is not None:
            self.recorder.flush()

    def _take(self, recorder: Recorder, rows: Rows, *, is_last: bool) -> None:
        tracking = recorder.tracking
        frames, tracking.new_frames = tracking.new_frames, []
        keyframe, self._next_keyframe = self._next_keyframe, None
        payload = self._encoder.encode(rows, names=recorder.names, codes=tracking.codes, frames=frames)
        step_count = len(rows) // ROW
        if self._keep:
            size = len(payload) + (_keyframe_bytes(keyframe) if keyframe is not None else 0)
            kept = _Kept(
                size=size,
                first_step=self._total + 1,
                first_frame=self._frames_met + 1,
                payload=payload,
                keyframe=keyframe,
            )
            self._batches.append(kept)
            self._bytes += size
            self._drop_oldest()
            self._since_keyframe += step_count
            if is_last:
                self._make_keyframe(recorder, rows)
        self._total += step_count
        self._frames_met += len(frames)
        if self._send is not None:
            self._send(payload, step_count)

    @property
    def step_count(self) -> int:
        """Number of the last step."""
        return self._total

    @property
    def first_kept_step(self) -> int:
        """The first step that can still be read."""
        return self._batches[0].first_step if self._batches else self._total + 1

    def _drop_oldest(self) -> None:
        while self._bytes > self._max_bytes and len(self._batches) > 1:
            self._bytes -= self._batches.pop(0).size
        while (
            len(self._batches) > 1 and self._batches[0].keyframe is None and self._batches[0].first_step > 1
        ):
            self._bytes -= self._batches.pop(0).size
        self.dropped_steps = self._batches[0].first_step - 1

    def _make_keyframe(self, recorder: Recorder, rows: Rows) -> None:
        """The state after `rows`, which are the last steps so far; kept with the next batch."""
        if self._since_keyframe < _KEYFRAME_STEPS:
            return
        states = recorder.tracking.states
        size = sum(len(state.snap) + 2 for state in list(states.values()))
        if self._since_keyframe >= 4 * size:
            self._since_keyframe = 0
            elapsed = rows[TIME_AT - ROW] - self.start_ns
            folded = Folded(stdout_bytes=rows[STDOUT_AT - ROW], elapsed_ns=elapsed)
            self._next_keyframe = _fold_live(folded, recorder)

    # --- reading back -------------------------------------------------------------------------

    def rows(self, first: int = 1, last: int | None = None) -> Iterator[StepRow]:
        """Steps from `first` to `last`, as far as they are kept."""
        for kept in self._from(first):
            if last is not None and kept.first_step > last:
                return
            for row in rows_of(read_batch(kept.payload), kept.first_step):
                if row.step >= first and (last is None or row.step <= last):
                    yield row

    def state_before(self, step: int) -> tuple[Folded, StepRow | None]:
        """The state at `step`, and the step itself; an earlier one when the trace has no such step."""
        state, row, _before = self.state_and_before(step)
        return state, row

    def state_and_before(
        self, step: int
    ) -> tuple[Folded, StepRow | None, dict[tuple[int, int], bytes | None]]:
        """As `state_before`, with the pictures that the step replaced."""
        state = Folded()
        batches = self._from(step, with_keyframe=True)
        for number, kept in enumerate(batches):
            if kept.first_step > step:
                break
            if kept.keyframe is not None:
                state = kept.keyframe.copy()
            columns = read_batch(kept.payload)
            open_frames(state, columns, kept.first_frame)
            last = kept.first_step + columns.step_count - 1
            wanted = min(step, last) - kept.first_step
            if step > last and number + 1 < len(batches):
                fold_columns(state, columns, columns.step_count)
                continue
            fold_columns(state, columns, wanted)
            result = columns.results().get(wanted)
            row = make_row(columns, kept.first_step, wanted, columns.changes_at(wanted), result)
            before = replaced_by(state, row)
            fold_row(state, row)
            return state, row, before
        return state, None, {}

    def advance(self, state: Folded, after: int) -> StepRow | None:
        """Brings `state`, which is the one at step `after`, to the last step; that step."""
        found = None
        for kept in self._from(after + 1):
            columns = read_batch(kept.payload)
            open_frames(state, columns, kept.first_frame, keep=True)
            for row in rows_of(columns, kept.first_step):
                if row.step > after:
                    fold_row(state, row)
                    found = row
        return found

    def walk(self, first: int = 1) -> Iterator[tuple[Folded, StepRow]]:
        """Each step with the state at it, from the first one kept on; the state is changed in place."""
        state = Folded()
        for kept in list(self._batches):
            if kept.keyframe is not None and not state.frames:
                state = kept.keyframe.copy()
            columns = read_batch(kept.payload)
            open_frames(state, columns, kept.first_frame)
            for row in rows_of(columns, kept.first_step):
                fold_row(state, row)
                if row.step >= first:
                    yield state, row

    def walk_with_before(
        self,
    ) -> Iterator[tuple[Folded, StepRow, dict[tuple[int, int], bytes | None]]]:
        """As `walk`, with the pictures that each step replaced."""
        state = Folded()
        for kept in list(self._batches):
            if kept.keyframe is not None and not state.frames:
                state = kept.keyframe.copy()
            columns = read_batch(kept.payload)
            open_frames(state, columns, kept.first_frame)
            for row in rows_of(columns, kept.first_step):
                before = replaced_by(state, row)
                fold_row(state, row)
                yield state, row, before

    def _from(self, step: int, *, with_keyframe: bool = False) -> list[_Kept]:
        batches = self._batches
        place = max(bisect_right(batches, step, key=_first_step_of) - 1, 0)
        if with_keyframe:
            while place > 0 and batches[place].keyframe is None:
                place -= 1
        return batches[place:]


def _keyframe_bytes(keyframe: Folded) -> int:
    variables = sum(len(frame.variables) + 2 for frame in keyframe.frames.values())
    return variables * _KEYFRAME_BYTES_A_VARIABLE


def _first_step_of(kept: _Kept) -> int:
    return kept.first_step


def _message_sized(rows: Rows) -> list[Rows]:
    parts: list[Rows] = [[]]
    size = 0
    for start in range(0, len(rows), ROW):
        step = rows[start : start + ROW]
        weight = 40
        if step[NAME_AT] == MANY_CHANGES:
            weight += sum(24 + (len(c[2]) if c[1] == OTHER else 0) for c in step[VALUE_AT])
        weight += len(step[RESULT_AT]) if step[RESULT_AT] is not None else 0
        if size + weight > _MAX_PAYLOAD_BYTES and parts[-1]:
            parts.append([])
            size = 0
        parts[-1] += step
        size += weight
    return parts


def _fold_live(folded: Folded, recorder: Recorder) -> Folded:
    names = recorder.names
    for state in list(recorder.tracking.states.values()):
        caller = state.caller.number if state.caller is not None else 0
        row = FrameRow(code=state.plan.number, caller=caller, depth=state.depth, thread=state.thread)
        variables = {
            names[name]: value.shown if type(value) is Mark else _scalars.render(value)
            for name, value in list(state.snap.items())
            if name in names
        }
        folded.frames[state.number] = FoldedFrame(row=row, line=state.statement, variables=variables)
    for thread, stack in list(recorder.tracking.stacks.items()):
        folded.stacks[thread] = [state.number for state in stack]
    return folded
