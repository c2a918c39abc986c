"""Writes `Stopped`, `BreakpointsSet`, `Evaluated` and `VariableSet` bytes."""

from collections.abc import Iterable, Sequence

from sandboxd.guest.debug.folding import Folded, StepRow
from sandboxd.guest.debug.full_steps import StepWriter
from sandboxd.guest.debug.stepping import EXCEPTION_RAISED, Verified
from sandboxd.guest.debug.wire import bytes_field, join, number_field, text_field

_EXCEPTION = 1
"""`Failure.KIND_EXCEPTION`."""


def stopped(
    writer: StepWriter,
    state: Folded,
    row: StepRow,
    *,
    reason: int,
    known: dict[int, dict[int, bytes]],
    in_the_past: bool = False,
    notes: Sequence[str] = (),
    result: bytes | None = None,
) -> bytes:
    """A stop. `known` is what the reader has seen of each frame so far; it is brought up to date."""
    frame = state.frames[row.frame]
    out = [
        number_field(1, reason),
        number_field(2, row.step),
        number_field(3, row.line),
        writer.lines_around(frame, row.line),
        writer.stack(state, row.thread, field=5),
        *(bytes_field(6, variable) for variable in changed_variables(writer, state, row.frame, known)),
    ]
    if reason == EXCEPTION_RAISED and row.result is not None:
        out.append(bytes_field(10, _failure(row.result)))
    shown = row.result if result is None else result
    if shown is not None:
        out.append(bytes_field(11, shown))
    out += [number_field(12, in_the_past), number_field(13, row.thread)]
    out += [text_field(15, note) for note in notes]
    return join(out)


def changed_variables(
    writer: StepWriter, state: Folded, frame_number: int, known: dict[int, dict[int, bytes]]
) -> list[bytes]:
    """Variables of the frame and of the module that look different from what is known."""
    out = []
    for number in dict.fromkeys((frame_number, 1)):
        frame = state.frames.get(number)
        if frame is None:
            continue
        before = known.get(number)
        for name, picture in frame.variables.items():
            old = before.get(name) if before is not None else None
            if picture != old:
                out.append(
                    writer.variable(
                        name, picture, is_global=number == 1, changed=before is not None, before=old
                    )
                )
        out += [
            writer.variable(name, None, is_global=number == 1, changed=True, before=old)
            for name, old in (before or {}).items()
            if name not in frame.variables
        ]
        known[number] = dict(frame.variables)
    for number in [number for number in known if number not in state.frames]:
        del known[number]
    return out


def _failure(picture: bytes) -> bytes:
    from sandboxd.guest.debug.wire import read_fields

    fields = dict(read_fields(picture))
    name, text = fields.get(12, b""), fields.get(8, b"")
    assert isinstance(name, bytes)
    assert isinstance(text, bytes)
    return number_field(1, _EXCEPTION) + bytes_field(2, name) + bytes_field(3, text)


def failure(name: str, message: str) -> bytes:
    """A `Failure` of an evaluation."""
    return number_field(1, _EXCEPTION) + text_field(2, name) + text_field(3, message)


def breakpoints_set(found: Iterable[Verified]) -> bytes:
    """What became of the breakpoints."""
    return join(
        bytes_field(
            1, number_field(1, each.verified) + number_field(2, each.line) + text_field(3, each.message)
        )
        for each in found
    )


def plain_variable(name: str, type_name: str, summary: str) -> bytes:
    """A `Variable` without a typed value."""
    return text_field(1, name) + text_field(2, type_name) + text_field(3, summary)
