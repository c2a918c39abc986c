"""The state of a stopped program, from one stop to the next."""

from sandboxd.guest.debug.folding import Folded, StepRow, fold_row
from sandboxd.guest.debug.live_steps import live_row, open_live
from sandboxd.guest.debug.queries import QueryFailed
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.steps import ROW, Step
from sandboxd.guest.debug.trace import Trace

_FOLDED_AHEAD = 1500
"""Steps between two stops up to which going on is quicker than starting from a keyframe."""
_FOLDED_LIVE = 64
"""The same up to which it is quicker not to have them encoded and read back."""


class Present:
    """Folds steps up to the last one. Those of a person who steps are left with the recorder: the trace takes
    them later, many at once."""

    def __init__(self, trace: Trace, recorder: Recorder, *, streams: bool) -> None:
        self._trace = trace
        self._recorder = recorder
        self._streams = streams
        self._state: Folded | None = None
        self._at = 0
        """Number of the last step that is folded."""
        self._last_row: StepRow | None = None

    def forget(self) -> None:
        """Steps will be missing: the next state is read from the trace."""
        self._state = None

    def at(self, step: Step) -> tuple[Folded, StepRow]:
        """The state at `step`, which is the last one, and the step as it is read back."""
        recorder, trace = self._recorder, self._trace
        if self._streams or len(recorder.rows) > _FOLDED_LIVE * ROW:
            recorder.flush()
        state = self._state
        if state is None or trace.step_count - self._at > _FOLDED_AHEAD:
            state, self._last_row = trace.state_before(trace.step_count)
            self._at = trace.step_count
        elif trace.step_count > self._at:
            self._last_row = trace.advance(state, self._at)
            self._at = trace.step_count
        self._fold_live(state)
        self._state, row = state, self._last_row
        if row is None:
            raise QueryFailed("no trace is kept")
        row.result = step[4]
        return state, row

    def _fold_live(self, state: Folded) -> None:
        trace, rows = self._trace, self._recorder.rows
        open_live(state, self._recorder.tracking.new_frames)
        for start in range((self._at - trace.step_count) * ROW, len(rows), ROW):
            self._at += 1
            row = live_row(rows[start : start + ROW], self._at, state, start_ns=trace.start_ns)
            fold_row(state, row)
            self._last_row = row
