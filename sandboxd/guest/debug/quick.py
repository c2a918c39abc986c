"""The quick way to record a line: where nothing but the frame's last statement can have changed anything,
and that binds few names. Most lines of most programs are recorded here, all others by the recorder itself.
"""

import time
import types
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.changes import Mark
from sandboxd.guest.debug.differ import INT64
from sandboxd.guest.debug.frames import MISSING
from sandboxd.guest.debug.options import LINE
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.steps import MANY_CHANGES, NO_CHANGE


def make_line(recorder: Recorder) -> Callable[[types.FrameType, int], None]:  # noqa: C901, PLR0915
    """What the hook calls for a line.

    One function and not several: it runs for each line of the program, and a call would cost a tenth of it.
    A thread may be stopped, or an exception of a signal handler raised, at any place in it, so a step is
    added in one piece, and what is known of the variable after that: at worst a change is told twice.
    """
    slow = recorder.line
    state_of = recorder.tracking.states.get
    tracking, outbox, rows = recorder.tracking, recorder.outbox, recorder.rows
    number_of, name_id = recorder.names.get, recorder.name_id
    add, stdout, clock = rows.extend, recorder.stdout, time.perf_counter_ns
    simple_change, changed_in_place = recorder.differ.simple_change, recorder.differ.changed_in_place

    def line(frame: types.FrameType, raw: int) -> None:  # noqa: C901, PLR0912, PLR0915
        state = state_of(id(frame))
        if state is None or state.quick != tracking.activity:
            slow(frame, raw)
            return
        was = state.statement
        statement = state.statement_of[raw]
        if statement == was and raw != state.raw_line:
            state.raw_line = raw
            return
        binds = state.looked_at.get(was)
        if binds is None:
            slow(frame, raw)
            return
        number, bound = NO_CHANGE, None
        entry: Any = None
        known = state.snap
        loud = state.described and was not in state.plan.quiet_stores
        if binds or loud:
            variables = state.variables
            if variables is None:
                variables = frame.f_locals
            for name in binds:
                value = variables.get(name, MISSING)
                old = known.get(name, MISSING)
                if value is old or (type(old) is Mark and id(value) == old.address):
                    continue
                if number or old is MISSING:
                    slow(frame, raw)
                    return
                bound, new = name, value
                if type(value) is int and -INT64 <= value < INT64:
                    number, entry = number_of(name) or name_id(name), value
                    continue
                found = simple_change(name, value)
                if found is None:
                    slow(frame, raw)
                    return
                number = MANY_CHANGES
                entry, new = found
            if loud and changed_in_place(state, variables, bound):
                slow(frame, raw)
                return
        now = clock()
        add((statement, LINE, state.place, number, entry, now, None, stdout[0]))
        if bound is not None:
            known[bound] = new
            if type(new) is Mark:
                state.found_object(bound, new)
        state.raw_line = raw
        state.statement = statement
        if now >= outbox.flush_at or len(rows) >= outbox.room:
            outbox.turn(now)

    return line
