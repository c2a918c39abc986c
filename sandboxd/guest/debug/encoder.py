"""Writes steps as `DebugBatch` bytes."""

from collections.abc import Sequence
from itertools import compress
from operator import sub
from typing import Any

from sandboxd.guest.debug.differ import INTEGER, OTHER, Change
from sandboxd.guest.debug.frames import FrameState
from sandboxd.guest.debug.plan import CodePlan
from sandboxd.guest.debug.steps import (
    EVENT_AT,
    LINE_AT,
    MANY_CHANGES,
    NAME_AT,
    NO_CHANGE,
    PLACE_AT,
    RESULT_AT,
    ROW,
    STDOUT_AT,
    TIME_AT,
    VALUE_AT,
    Rows,
)
from sandboxd.guest.debug.wire import bytes_field, number_field, packed_field, zigzag_field


class BatchEncoder:
    """Writes batches in a row; remembers which names, codes and frames it has sent."""

    def __init__(self, *, start_ns: int) -> None:
        self._last_ns = start_ns
        self._last_stdout = 0
        self._next_step = 1
        self._names_sent = 0
        self._codes_sent = 0

    def encode(
        self,
        rows: Rows,
        *,
        names: dict[str, int],
        codes: Sequence[CodePlan],
        frames: Sequence[FrameState],
    ) -> bytes:
        """The next batch. `frames` are those met since the last one, the others all so far."""
        head = [number_field(1, self._next_step)]
        code_parts = [
            bytes_field(3, _code_info(code, names)) for code in codes[self._codes_sent :]
        ]  # may add names, so it comes first
        head += [
            bytes_field(2, name.encode("utf-8", "backslashreplace"))
            for name in list(names)[self._names_sent :]
        ]
        head += code_parts
        head += [bytes_field(4, _frame_info(frame)) for frame in frames]
        head.append(bytes_field(6, self._columns(rows)))
        self._names_sent, self._codes_sent = len(names), len(codes)
        self._next_step += len(rows) // ROW
        return b"".join(head)

    def _columns(self, rows: Rows) -> bytes:
        places = rows[PLACE_AT::ROW]
        out = [
            number_field(1, len(places)),
            packed_field(2, rows[LINE_AT::ROW]),
            packed_field(3, _shortened(rows[EVENT_AT::ROW])),
        ]
        if places.count(places[0]) == len(places):  # a loop: one frame all the time
            del places[1:]
        numbers, depths, threads = zip(*places, strict=True)
        out += [
            packed_field(4, _shortened(numbers)),
            packed_field(5, _shortened(depths)),
            packed_field(6, _shortened(threads)),
            packed_field(7, self._elapsed(rows[TIME_AT::ROW])),
            self._stdout(rows[STDOUT_AT::ROW]),
        ]
        _add_changes(out, rows[NAME_AT::ROW], rows[VALUE_AT::ROW])
        results = rows[RESULT_AT::ROW]
        if results.count(None) != len(results):
            found = [place for place, result in enumerate(results) if result is not None]
            out.append(packed_field(14, found))
            out += [bytes_field(15, results[place]) for place in found]
        return b"".join(out)

    def _elapsed(self, times: list[int]) -> list[int]:
        elapsed = list(map(sub, times, [self._last_ns, *times]))
        self._last_ns = times[-1]
        # Two threads may finish their steps in another order than they began them.
        return elapsed if min(elapsed) >= 0 else [max(each, 0) for each in elapsed]

    def _stdout(self, outputs: list[int]) -> bytes:
        if outputs[-1] == self._last_stdout:
            return b""
        before = [self._last_stdout, *outputs]
        self._last_stdout = outputs[-1]
        return packed_field(8, [max(now - then, 0) for then, now in zip(before, outputs, strict=False)])


def _add_changes(out: list[bytes], names: list[int], values: list[Any]) -> None:
    if MANY_CHANGES in names:
        _add_many_changes(out, names, values)
        return
    if NO_CHANGE in names:
        counts: Sequence[int] = list(map(bool, names))
        names = list(filter(None, names))
        if not names:
            return
        values = list(compress(values, counts))
    else:
        counts = b"\1" * len(names)
    out.append(packed_field(9, counts))
    out.append(packed_field(10, names))
    out.append(packed_field(11, (INTEGER,)))
    out.append(zigzag_field(12, values))


def _add_many_changes(out: list[bytes], names: list[int], values: list[Any]) -> None:
    counts: list[int] = []
    rows: list[Change] = []
    for name, value in zip(names, values, strict=True):
        if name > 0:
            counts.append(1)
            rows.append((name, INTEGER, value))
        elif name == MANY_CHANGES:
            counts.append(len(value))
            rows += value
        else:
            counts.append(0)
    changed, kinds, contents = zip(*rows, strict=True)
    out.append(packed_field(9, counts))
    out.append(packed_field(10, changed))
    out.append(packed_field(11, _shortened(kinds)))
    if min(kinds) == INTEGER:
        out.append(zigzag_field(12, _integers(kinds, contents)))
    out += [bytes_field(13, number_field(1, name) + content) for name, kind, content in rows if kind == OTHER]


def _integers(kinds: Sequence[int], contents: Sequence[Any]) -> list[int]:
    return [content for kind, content in zip(kinds, contents, strict=True) if kind == INTEGER]


def _shortened(column: Sequence[int]) -> Sequence[int]:
    """The column without the repetitions of its last entry; empty when it is all zeros."""
    last = column[-1]
    if column.count(last) == len(column):
        return column[:1] if last else ()
    end = len(column)
    while end > 1 and column[end - 2] == last:
        end -= 1
    return column[:end]


def _code_info(plan: CodePlan, names: dict[str, int]) -> bytes:
    number = names.setdefault(plan.name, len(names) + 1)
    return number_field(1, number) + number_field(2, plan.code.co_firstlineno)


def _frame_info(frame: FrameState) -> bytes:
    caller = frame.caller.number if frame.caller is not None else 0
    return (
        number_field(1, frame.plan.number)
        + number_field(2, caller)
        + number_field(3, frame.depth)
        + number_field(4, frame.thread)
    )
