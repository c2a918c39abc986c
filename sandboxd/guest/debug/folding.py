"""Folds steps: from what changed to the full state at any of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sandboxd.guest.debug.batch_reader import BatchColumns, FrameRow, RowChange
from sandboxd.guest.debug.wire import number_field


@dataclass(slots=True, kw_only=True)
class FoldedFrame:
    """A frame as far as the trace was read."""

    row: FrameRow
    line: int = 0
    variables: dict[int, bytes] = field(default_factory=dict)
    """Pictures by id of the name."""

    def picture(self, name: int) -> bytes | None:
        """The picture of a variable, None when it is not bound."""
        return self.variables.get(name)


@dataclass(slots=True, kw_only=True)
class Folded:
    """The state after reading steps: what was known before the next line ran."""

    frames: dict[int, FoldedFrame] = field(default_factory=dict)
    stacks: dict[int, list[int]] = field(default_factory=dict)
    """Numbers of the frames of each thread, outermost first."""
    stdout_bytes: int = 0
    elapsed_ns: int = 0

    def copy(self) -> "Folded":
        """An independent one."""
        frames = {
            number: FoldedFrame(row=frame.row, line=frame.line, variables=dict(frame.variables))
            for number, frame in self.frames.items()
        }
        stacks = {thread: list(stack) for thread, stack in self.stacks.items()}
        return Folded(
            frames=frames, stacks=stacks, stdout_bytes=self.stdout_bytes, elapsed_ns=self.elapsed_ns
        )


@dataclass(slots=True, kw_only=True)
class StepRow:
    """One step as read back."""

    step: int
    line: int
    event: int
    frame: int
    depth: int
    thread: int
    changes: list[RowChange]
    """Name, picture or None when unbound, patch (index, picture, length), whether it is a global."""
    result: bytes | None
    elapsed_ns: int
    stdout_bytes: int


def open_frames(state: Folded, columns: BatchColumns, first_frame: int, *, keep: bool = False) -> None:
    """Adds the frames that appear first in a batch."""
    for number, row in enumerate(columns.frames, first_frame):
        if not keep or number not in state.frames:
            state.frames[number] = FoldedFrame(row=row)


def fold_row(state: Folded, row: StepRow) -> None:
    """Brings `state` from before `row` to it."""
    frame = state.frames.get(row.frame)
    if frame is None:
        return
    frame.line = row.line
    stack = state.stacks.setdefault(row.thread, [])
    del stack[row.depth - 1 :]
    stack.append(row.frame)
    state.stdout_bytes += row.stdout_bytes
    state.elapsed_ns += row.elapsed_ns
    for change in row.changes:
        _apply(state, frame, change)


def replaced_by(state: Folded, row: StepRow) -> dict[tuple[int, int], bytes | None]:
    """The pictures that `row` replaces, by frame and name; to be taken before it is folded."""
    found: dict[tuple[int, int], bytes | None] = {}
    for name, _picture, _patch, is_global in row.changes:
        owner = 1 if is_global else row.frame
        frame = state.frames.get(owner)
        found[owner, name] = frame.variables.get(name) if frame is not None else None
    return found


def fold_columns(state: Folded, columns: BatchColumns, count: int) -> None:
    """Folds the first `count` steps of a batch, of which nobody wants to see each."""
    state.elapsed_ns += sum(columns.filled(columns.elapsed)[:count])
    state.stdout_bytes += sum(columns.filled(columns.stdout)[:count]) if columns.stdout else 0
    if count and columns.integers_only():
        _fold_loop(state, columns, count)
        return
    flat = columns.flat_changes(count)
    frames, stacks = state.frames, state.stacks
    numbers = columns.filled(columns.frame_numbers)
    depths = columns.filled(columns.depths)
    threads = columns.filled(columns.threads)
    lines = columns.filled(columns.lines)
    changes = iter(flat)
    counts = columns.change_counts
    for place in range(count):
        number = numbers[place]
        frame = frames.get(number)
        if frame is None:
            continue
        frame.line = lines[place]
        stack = stacks.get(threads[place])
        if stack is None:
            stack = stacks[threads[place]] = []
        if not stack or stack[-1] != number or len(stack) != depths[place]:
            del stack[depths[place] - 1 :]
            stack.append(number)
        for _ in range(counts[place] if place < len(counts) else 0):
            _apply(state, frame, next(changes))


def _fold_loop(state: Folded, columns: BatchColumns, count: int) -> None:
    """The same where all steps are one frame's and all changes integers: only the last ones count."""
    number = columns.at(columns.frame_numbers, 0)
    frame = state.frames.get(number)
    if frame is None:
        return
    frame.line = columns.at(columns.lines, count - 1)
    stack = state.stacks.setdefault(columns.at(columns.threads, 0), [])
    del stack[columns.at(columns.depths, 0) - 1 :]
    stack.append(number)
    frame.variables.update(columns.last_integers(count))


def _apply(state: Folded, frame: FoldedFrame, change: RowChange) -> None:
    name, picture, patch, is_global = change
    variables = (state.frames.get(1, frame) if is_global else frame).variables
    if patch is not None:
        if name in variables:
            variables[name] = with_length(variables[name], patch[2])
    elif picture is None:
        variables.pop(name, None)
    else:
        variables[name] = picture


def with_length(picture: bytes, length: int) -> bytes:
    """`picture` with another length. The last of a repeated field wins, so the tail is enough; a tail put
    there before is taken off."""
    tail = picture[-_TAIL_BYTES:]
    start = tail.rfind(_TAIL_MARK)
    if start >= 0:
        picture = picture[: len(picture) - len(tail) + start]
    return picture + _TAIL_MARK + number_field(13, length)


_TAIL_MARK = b"\xf8\x7f\x00"
"""An unused field, number 2047, that marks where a length was put behind a picture."""
_TAIL_BYTES = 16


def rows_of(columns: BatchColumns, first_step: int) -> Iterator[StepRow]:
    """The steps of a batch."""
    changes = columns.changes()
    results = columns.results()
    for place in range(columns.step_count):
        yield make_row(columns, first_step, place, changes[place], results.get(place))


def make_row(
    columns: BatchColumns, first_step: int, place: int, changes: list[RowChange], result: bytes | None
) -> StepRow:
    """One step of a batch, with its changes already read."""
    return StepRow(
        step=first_step + place,
        line=columns.at(columns.lines, place),
        event=columns.at(columns.events, place),
        frame=columns.at(columns.frame_numbers, place),
        depth=columns.at(columns.depths, place),
        thread=columns.at(columns.threads, place),
        changes=changes,
        result=result,
        elapsed_ns=columns.at(columns.elapsed, place),
        stdout_bytes=columns.at(columns.stdout, place),
    )
