"""Writes `FullStep`, `StackFrame` and `StepVariable` bytes: steps that are complete by themselves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sandboxd.guest.debug.folding import Folded, FoldedFrame, StepRow
from sandboxd.guest.debug.plan import CodePlan
from sandboxd.guest.debug.show import show
from sandboxd.guest.debug.wire import bytes_field, join, number_field, text_field

RUNNING = 2
"""`Execution.State` on the wire; checked against the contract by a test."""
_MAX_STACK = 64
_MAX_WRITTEN = 4096
_LINES_AROUND = 5


class StepWriter:
    """Writes states as messages; knows the names and codes of one run."""

    def __init__(
        self,
        *,
        names: Sequence[str],
        codes: Sequence[CodePlan],
        max_variables: int,
        written: dict[Any, bytes] | None = None,
    ) -> None:
        """`written` keeps what was written and may come again, for who writes many steps."""
        self._names = names
        self._codes = codes
        self._max_variables = max_variables
        self._written = {} if written is None else written
        if len(self._written) > _MAX_WRITTEN:
            self._written.clear()

    def code_of(self, frame: FoldedFrame) -> CodePlan:
        """The code that a frame runs."""
        return self._codes[frame.row.code - 1]

    def name(self, number: int) -> str:
        """The name with an id."""
        return self._names[number - 1] if 0 < number <= len(self._names) else "?"

    def full_step(
        self, state: Folded, row: StepRow, before: Mapping[tuple[int, int], bytes | None] | None = None
    ) -> bytes:
        """One step with its stack and variables. `before` has the pictures that the step replaced, by
        frame and name."""
        frame = state.frames[row.frame]
        plan = self.code_of(frame)
        out = [
            number_field(1, row.step),
            number_field(2, row.line),
            text_field(3, plan.source.text(row.line)),
            number_field(4, row.event),
            number_field(5, RUNNING),
            number_field(6, row.thread),
            self.stack(state, row.thread),
        ]
        variables, left_out = self._step_variables(state, row, before or {})
        out += [bytes_field(8, variable) for variable in variables]
        if row.result is not None:
            out.append(bytes_field(9, row.result))
        out.append(bytes_field(13, _duration(state.elapsed_ns)))
        out.append(number_field(14, left_out))
        return join(out)

    def stack(self, state: Folded, thread: int, field: int = 7) -> bytes:
        """The thread's frames as `StackFrame` fields, outermost first; the middle of a deep one left out."""
        numbers = state.stacks.get(thread, [])
        if len(numbers) > _MAX_STACK:
            numbers = numbers[: _MAX_STACK // 2] + numbers[-_MAX_STACK // 2 :]
        return join(bytes_field(field, self.stack_frame(number, state.frames[number])) for number in numbers)

    def stack_frame(self, number: int, frame: FoldedFrame) -> bytes:
        """One frame."""
        key = (number, frame.line, frame.row.depth)
        written = self._written.get(key)
        if written is None:
            plan = self.code_of(frame)
            written = self._written[key] = (
                number_field(1, number)
                + text_field(2, plan.name)
                + number_field(3, frame.line)
                + text_field(4, plan.source.text(frame.line))
                + number_field(5, frame.row.depth)
            )
        return written

    def lines_around(self, frame: FoldedFrame, line: int, field: int = 4) -> bytes:
        """The source around a line as `SourceLine` fields."""
        source = self.code_of(frame).source
        key = (source.label, line)
        written = self._written.get(key)
        if written is None:
            first, last = max(line - _LINES_AROUND, 1), min(line + _LINES_AROUND, len(source.lines))
            written = self._written[key] = join(
                bytes_field(field, number_field(1, each) + text_field(2, source.text(each)))
                for each in range(first, last + 1)
            )
        return written

    def variables(self, frame: FoldedFrame, *, is_global: bool) -> list[bytes]:
        """All variables of a frame, as `StepVariable` bodies."""
        return [
            self.variable(name, picture, is_global=is_global) for name, picture in frame.variables.items()
        ]

    def variable(
        self,
        name: int,
        picture: bytes | None,
        *,
        is_global: bool = False,
        changed: bool = False,
        before: bytes | None = None,
    ) -> bytes:
        """One variable."""
        return join(
            (
                text_field(1, self.name(name)),
                b"" if picture is None else bytes_field(2, picture),
                b"" if before is None else bytes_field(3, before),
                number_field(4, changed),
                number_field(5, is_global),
                text_field(6, "" if picture is None else show(picture)),
            )
        )

    def _unchanged(self, name: int, picture: bytes, *, is_global: bool) -> bytes:
        key = (name, picture, is_global)
        written = self._written.get(key)
        if written is None:
            written = self._written[key] = self.variable(name, picture, is_global=is_global)
        return written

    def _step_variables(
        self, state: Folded, row: StepRow, before: Mapping[tuple[int, int], bytes | None]
    ) -> tuple[list[bytes], int]:
        out: list[bytes] = []
        left_out = 0
        numbers = [row.frame] if row.frame == 1 or 1 not in state.frames else [row.frame, 1]
        for number in numbers:
            frame = state.frames[number]
            is_global = number == 1
            for name, picture in frame.variables.items():
                if len(out) >= self._max_variables:
                    left_out += 1
                    continue
                if (number, name) in before:
                    old = before[number, name]
                    out.append(self.variable(name, picture, is_global=is_global, changed=True, before=old))
                else:
                    out.append(self._unchanged(name, picture, is_global=is_global))
            out += [
                self.variable(name, None, is_global=is_global, changed=True, before=old)
                for (owner, name), old in before.items()
                if owner == number and name not in frame.variables
            ]
        return out, left_out


def _duration(nanoseconds: int) -> bytes:
    return number_field(1, nanoseconds // 1_000_000_000) + number_field(2, nanoseconds % 1_000_000_000)


def range_fields(field: int, lines: Iterable[int]) -> bytes:
    """Lines as `LineRange` fields."""
    out, ordered = [], sorted(lines)
    while ordered:
        first = last = ordered.pop(0)
        while ordered and ordered[0] == last + 1:
            last = ordered.pop(0)
        out.append(bytes_field(field, number_field(1, first) + number_field(2, last)))
    return join(out)
