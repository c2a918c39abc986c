"""The first and last passes of a loop."""

import ast

from sandboxd.guest.debug.full_steps import StepWriter
from sandboxd.guest.debug.options import LINE
from sandboxd.guest.debug.show import read_value
from sandboxd.guest.debug.trace import Trace
from sandboxd.guest.debug.wire import MalformedMessage, bytes_field, join, number_field, text_field

_LOOPS = (ast.For, ast.AsyncFor, ast.While)


class NoSuchLoop(Exception):
    """No loop is at the line asked for."""


class _Pass:
    __slots__ = ("changes", "first_step", "number")

    def __init__(self, number: int, first_step: int) -> None:
        self.number = number
        self.first_step = first_step
        self.changes: dict[int, bytes | None] = {}


def find_loop(source: str, line: int) -> tuple[int, int]:
    """First and last line of the innermost loop that `line` is in."""
    best: tuple[int, int] | None = None
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _LOOPS):
            end = node.body[-1].end_lineno or node.lineno
            if node.lineno <= line <= end and (best is None or node.lineno >= best[0]):
                best = (node.lineno, end)
    if best is None:
        raise NoSuchLoop(f"line {line} is in no loop")
    return best


def summarize_loop(  # noqa: C901  one pass over the steps, one case a kind of line
    trace: Trace, writer: StepWriter, line: int, count: int
) -> bytes:
    """`TraceLoop` bytes of the loop at `line`, with `count` passes at each end."""
    first, last = find_loop(trace.source_text, line)
    passes: list[_Pass] = []
    total = 0
    ranges: dict[int, tuple[float, float]] = {}
    current: _Pass | None = None
    body_seen = False
    for row in trace.rows():
        inside = first <= row.line <= last
        if current is not None:
            _note_changes(current, row.changes, ranges)
        if row.event != LINE or (not inside and current is None):
            continue
        if row.line == first:
            total += body_seen or current is None
            if body_seen or current is None:
                current = _Pass(total, row.step)
                passes.append(current)
                if len(passes) > 2 * count + 1:  # the last visit of the head may turn out to be none
                    del passes[count]
            body_seen = first == last
        elif inside:
            body_seen = True
        elif row.event == LINE and row.depth <= 1:
            current = None
            body_seen = False
    if passes and not _has_body(passes[-1], total, body_seen):
        passes.pop()
        total -= 1
    if len(passes) > 2 * count:
        del passes[count]
    return _write(writer, (first, last), total, passes, count, ranges)


def _has_body(_last: _Pass, _total: int, body_seen: bool) -> bool:  # noqa: FBT001
    return body_seen or not _total


def _note_changes(
    current: _Pass,
    changes: list[tuple[int, bytes | None, tuple[int, bytes, int] | None, bool]],
    ranges: dict[int, tuple[float, float]],
) -> None:
    for name, picture, patch, _is_global in changes:
        if patch is not None:
            continue
        current.changes[name] = picture
        try:
            value = read_value(picture) if picture is not None else None
        except MalformedMessage:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            low, high = ranges.get(name, (float(value), float(value)))
            ranges[name] = (min(low, float(value)), max(high, float(value)))


def _write(
    writer: StepWriter,
    lines: tuple[int, int],
    total: int,
    passes: list[_Pass],
    count: int,
    ranges: dict[int, tuple[float, float]],
) -> bytes:
    import struct

    out = [number_field(1, lines[0]), number_field(2, lines[1]), number_field(3, total)]
    for place, each in enumerate(passes):
        body = [number_field(1, each.number), number_field(2, each.first_step)]
        body += [
            bytes_field(3, writer.variable(name, picture, changed=True))
            for name, picture in each.changes.items()
        ]
        out.append(bytes_field(4 if place < count else 5, join(body)))
    for name, (low, high) in ranges.items():
        numbers = b"\x11" + struct.pack("<d", low) + b"\x19" + struct.pack("<d", high)
        out.append(bytes_field(6, text_field(1, writer.name(name)) + numbers))
    return join(out)
