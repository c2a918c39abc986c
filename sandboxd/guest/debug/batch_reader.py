"""Reads `DebugBatch` bytes back."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sandboxd.guest.debug.differ import INTEGER, OTHER
from sandboxd.guest.debug.wire import MalformedMessage, read_fields, read_packed, read_tokens

RowChange = tuple[int, bytes | None, tuple[int, bytes, int] | None, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRow:
    """A frame's fixed facts."""

    code: int
    caller: int
    depth: int
    thread: int


@dataclass(slots=True, kw_only=True)
class BatchColumns:
    """A batch, as columns."""

    step_count: int = 0
    frames: list[FrameRow] = field(default_factory=list)
    lines: Sequence[int] = ()
    events: Sequence[int] = ()
    frame_numbers: Sequence[int] = ()
    depths: Sequence[int] = ()
    threads: Sequence[int] = ()
    elapsed: Sequence[int] = ()
    stdout: Sequence[int] = ()
    change_counts: Sequence[int] = ()
    change_names: Sequence[int] = ()
    change_kinds: Sequence[int] = ()
    integers: Sequence[bytes] = ()
    """Varints in zigzag form, still encoded: as they stand in pictures too."""
    others: list[bytes] = field(default_factory=list)
    result_steps: Sequence[int] = ()
    result_pictures: list[bytes] = field(default_factory=list)

    @staticmethod
    def at(column: Sequence[int], place: int) -> int:
        """Entry of a column whose repeated end may be cut off."""
        if place < len(column):
            return column[place]
        return column[-1] if column else 0

    def results(self) -> dict[int, bytes]:
        """Pictures of results by place in the batch."""
        return dict(zip(self.result_steps, self.result_pictures, strict=False))

    def filled(self, column: Sequence[int]) -> Sequence[int]:
        """The column with its repeated end written out."""
        missing = self.step_count - len(column)
        return column if missing <= 0 else [*column, *[column[-1] if column else 0] * missing]

    def changes(self) -> list[list[RowChange]]:
        """The changes of each step."""
        flat = self.flat_changes(self.step_count)
        out, at = [], 0
        for place in range(self.step_count):
            count = self.change_counts[place] if place < len(self.change_counts) else 0
            out.append(flat[at : at + count])
            at += count
        return out

    def integers_only(self) -> bool:
        """Whether all its changes are integers of one frame, as in a loop."""
        return (
            len(self.frame_numbers) <= 1
            and not self.others
            and not any(k != INTEGER for k in self.change_kinds)
        )

    def last_integers(self, steps: int) -> dict[int, bytes]:
        """By name, the last picture in the first `steps` steps; where there are only integers."""
        count = sum(self.change_counts[:steps])
        last = dict(zip(self.change_names[:count], self.integers[:count], strict=True))
        return {name: b"\x18" + token for name, token in last.items()}

    def flat_changes(self, steps: int) -> list[RowChange]:
        """The changes of the first `steps` steps in a row."""
        return self._changes_between(0, sum(self.change_counts[:steps]))

    def changes_at(self, place: int) -> list[RowChange]:
        """The changes of one step."""
        first = sum(self.change_counts[:place])
        return self._changes_between(first, first + sum(self.change_counts[place : place + 1]))

    def _changes_between(self, first: int, end: int) -> list[RowChange]:
        kinds = self.filled_kinds()
        integers = iter(self.integers[kinds[:first].count(INTEGER) :])
        others = iter(self.others[kinds[:first].count(OTHER) :])
        found: list[RowChange] = []
        for name, kind in zip(self.change_names[first:end], kinds[first:end], strict=False):
            if kind == INTEGER:
                found.append((name, b"\x18" + next(integers), None, False))
            elif kind == OTHER:
                found.append(read_change(name, next(others)))
            else:
                found.append((name, None, None, False))
        return found

    def filled_kinds(self) -> bytes:
        """The kinds of all changes, with the repeated end written out."""
        kinds = bytes(self.change_kinds)
        missing = len(self.change_names) - len(kinds)
        return kinds + kinds[-1:] * missing


def read_change(name: int, body: bytes) -> RowChange:
    """A `Change` body."""
    picture: bytes | None = None
    patch: tuple[int, bytes, int] | None = None
    is_global = False
    for number, value in read_fields(body):
        if number == 2 and isinstance(value, bytes):
            picture = value
        elif number == 4 and isinstance(value, bytes):
            patch = _read_patch(value)
        elif number == 5:
            is_global = bool(value)
    return (name, picture, patch, is_global)


def _read_patch(body: bytes) -> tuple[int, bytes, int]:
    index = length = 0
    picture = b""
    for number, value in read_fields(body):
        if number == 1 and isinstance(value, int):
            index = value
        elif number == 3 and isinstance(value, bytes):
            picture = value
        elif number == 4 and isinstance(value, int):
            length = value
    return (index, picture, length)


_COLUMN_FIELDS = {
    2: "lines", 3: "events", 4: "frame_numbers", 5: "depths", 6: "threads", 7: "elapsed", 8: "stdout",
    9: "change_counts", 10: "change_names", 11: "change_kinds", 14: "result_steps",
}  # fmt: skip
_INTEGERS = 12


def read_batch(payload: bytes) -> BatchColumns:
    """The columns of a batch; `MalformedMessage` when it is none."""
    columns = BatchColumns()
    for number, value in read_fields(payload):
        if number == 4 and isinstance(value, bytes):
            columns.frames.append(_read_frame(value))
        elif number == 6 and isinstance(value, bytes):
            _read_columns(columns, value)
    if len(columns.change_names) < sum(columns.change_counts):
        raise MalformedMessage("fewer changes than counted")
    return columns


def _read_columns(columns: BatchColumns, body: bytes) -> None:
    for number, value in read_fields(body):
        if number == 1 and isinstance(value, int):
            columns.step_count = value
        elif isinstance(value, int):
            continue
        elif number == 13:
            columns.others.append(value)
        elif number == 15:
            columns.result_pictures.append(value)
        elif number == _INTEGERS:
            columns.integers = read_tokens(value)
        elif number in _COLUMN_FIELDS:
            setattr(columns, _COLUMN_FIELDS[number], read_packed(value))


def _read_frame(body: bytes) -> FrameRow:
    values = {number: value for number, value in read_fields(body) if isinstance(value, int)}
    return FrameRow(
        code=values.get(1, 0), caller=values.get(2, 0), depth=values.get(3, 0), thread=values.get(4, 0)
    )
