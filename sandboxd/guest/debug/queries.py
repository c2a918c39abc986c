"""Answers to questions about a trace, as `TraceAnswer` bytes."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from sandboxd.guest.debug.folding import Folded, FoldedFrame, StepRow
from sandboxd.guest.debug.full_steps import StepWriter, range_fields
from sandboxd.guest.debug.judge import Undecided, judge, names_in, parse_expression
from sandboxd.guest.debug.loops import summarize_loop
from sandboxd.guest.debug.options import CALL, LINE, RETURN, UNWIND
from sandboxd.guest.debug.queries_text import failure_report, trace_text
from sandboxd.guest.debug.query import (
    Calls,
    FailureText,
    FirstWhere,
    LastWrite,
    LinesNotReached,
    LoopPasses,
    Query,
    QueryLimits,
    StateAtStep,
    TraceText,
    WhenChanged,
)
from sandboxd.guest.debug.show import read_value, show
from sandboxd.guest.debug.trace import Trace
from sandboxd.guest.debug.wire import bytes_field, join, number_field, text_field

__all__ = ["QueryFailed", "answer"]


class QueryFailed(Exception):
    """The question names something that the trace does not have."""


def answer(trace: Trace, query: Query, limits: QueryLimits) -> bytes:
    """The answer to `query`; `QueryFailed` or `BadExpression` when it cannot be answered."""
    asked = _Asked(trace, limits)
    match query:
        case StateAtStep(step=step):
            body = asked.state_at(step)
        case WhenChanged():
            body = asked.when_changed(query)
        case LastWrite():
            body = asked.last_write(query)
        case FirstWhere():
            body = asked.first_where(query)
        case Calls(function=function):
            body = asked.calls(function)
        case LinesNotReached():
            body = asked.lines_not_reached()
        case LoopPasses(line=line, pass_count=count):
            body = bytes_field(6, summarize_loop(trace, asked.writer, line, count))
        case TraceText():
            text, steps, left_out = trace_text(trace, asked.writer, query, limits)
            asked.left_out += left_out
            body = bytes_field(7, text_field(1, text) + number_field(2, steps))
        case FailureText(change_count=count):
            text, left_out = failure_report(trace, asked.writer, count, limits)
            asked.left_out += left_out
            body = bytes_field(7, text_field(1, text) + number_field(2, trace.step_count))
    return body + asked.notes()


class _Asked:
    """One question's working state."""

    def __init__(self, trace: Trace, limits: QueryLimits) -> None:
        assert trace.recorder is not None
        recorder = trace.recorder
        self.trace = trace
        self.limits = limits
        self.names: dict[str, int] = recorder.names
        self.writer = StepWriter(
            names=list(recorder.names),
            codes=recorder.tracking.codes,
            max_variables=recorder.options.values.max_variables,
        )
        self.left_out: list[str] = []

    def notes(self) -> bytes:
        if self.trace.dropped_steps:
            self.left_out.append(f"steps 1 to {self.trace.dropped_steps} are no longer kept")
        recorder = self.trace.recorder
        if recorder is not None and recorder.limit_reached:
            self.left_out.append(f"steps after {self.trace.step_count}: raise filter.max_steps")
        return join(text_field(8, note) for note in self.left_out)

    def state_at(self, step: int) -> bytes:
        state, row, before = self.trace.state_and_before(step)
        if row is None or row.step != step:
            first, last = self.trace.first_kept_step, self.trace.step_count
            raise QueryFailed(f"the trace has steps {first} to {last}")
        out = [bytes_field(1, self.writer.full_step(state, row, before))]
        for number in state.stacks.get(row.thread, []):
            frame = state.frames[number]
            body = bytes_field(1, self.writer.stack_frame(number, frame)) + join(
                bytes_field(2, variable) for variable in self.writer.variables(frame, is_global=number == 1)
            )
            out.append(bytes_field(2, body))
        return bytes_field(1, join(out))

    def when_changed(self, query: WhenChanged) -> bytes:
        found: list[bytes] = []
        total = 0
        for body in self._changes_of(query.name, query.function, query.from_step, query.to_step):
            total += 1
            if len(found) < self.limits.max_entries:
                found.append(body)
        if total > len(found):
            self.left_out.append(f"{total - len(found)} more changes: ask with from_step or max_entries")
        return bytes_field(2, join(bytes_field(1, body) for body in found) + number_field(2, total))

    def last_write(self, query: LastWrite) -> bytes:
        last = b""
        total = 0
        for body in self._changes_of(query.name, query.function, 0, query.before_step):
            last, total = body, total + 1
        return bytes_field(2, (bytes_field(1, last) if total else b"") + number_field(2, total))

    def _changes_of(self, name: str, function: str, first: int, last: int) -> Iterator[bytes]:
        number = self.names.get(name)
        if number is None:
            return
        executed: dict[int, int] = {}
        for state, row, before in self.trace.walk_with_before():
            if last and row.step > last:
                return
            for changed, picture, patch, is_global in row.changes:
                owner = state.frames.get(1 if is_global else row.frame)
                if changed != number or owner is None or row.step < first:
                    continue
                if function and self.writer.code_of(owner).name != function:
                    continue
                old = before.get((1 if is_global else row.frame, changed))
                yield self._change(row, executed.get(row.frame, 0), owner, name, old, picture, patch)
            executed[row.frame] = row.line

    def _change(
        self, row: StepRow, line: int, owner: Any, name: str, old: bytes | None, new: bytes | None, patch: Any
    ) -> bytes:
        plan = self.writer.code_of(owner)
        line = line or plan.code.co_firstlineno
        place = f"[{patch[0]}]: -> {show(patch[1])}" if patch is not None else ""
        text = (
            place or f"{'unbound' if old is None else show(old)} -> {'unbound' if new is None else show(new)}"
        )
        after = old if patch is not None else new
        return join(
            (
                number_field(1, row.step),
                number_field(2, line),
                text_field(3, plan.source.text(line)),
                text_field(4, plan.name),
                text_field(5, name),
                b"" if old is None else bytes_field(6, old),
                b"" if after is None else bytes_field(7, after),
                text_field(8, text),
            )
        )

    def first_where(self, query: FirstWhere) -> bytes:
        tree = parse_expression(query.expression)
        wanted = names_in(tree)
        missing = [name for name in wanted if name not in self.names]
        undecided = 0
        if missing:
            raise QueryFailed(f"no variable {missing[0]!r} is in the trace")
        for state, row in self.trace.walk(query.from_step):
            frame = state.frames.get(row.frame)
            if frame is None or (query.function and self.writer.code_of(frame).name != query.function):
                continue
            try:
                if judge(tree, partial(self._value, state, frame)):
                    step = self.writer.full_step(state, row)
                    return bytes_field(
                        3, number_field(1, 1) + bytes_field(2, step) + number_field(3, undecided)
                    )
            except Undecided:
                undecided += 1
        return bytes_field(3, number_field(3, undecided))

    def _value(self, state: Folded, frame: FoldedFrame, name: str) -> Any:
        number = self.names[name]
        picture = frame.variables.get(number)
        if picture is None and 1 in state.frames:
            picture = state.frames[1].variables.get(number)
        if picture is None:
            raise Undecided(name)
        return read_value(picture)

    def calls(self, function: str) -> bytes:
        open_calls: dict[int, list[bytes]] = {}
        done: list[list[bytes]] = []
        total = 0
        for state, row in self.trace.walk():
            frame = state.frames.get(row.frame)
            if frame is None:
                continue
            if row.event == CALL and self.writer.code_of(frame).name == function:
                total += 1
                if len(done) < self.limits.max_entries:
                    open_calls[row.frame] = entry = self._call(state, row, frame)
                    done.append(entry)
            elif row.event in (RETURN, UNWIND) and row.frame in open_calls:
                entry = open_calls.pop(row.frame)
                entry.append(number_field(2, row.step))
                if row.event == RETURN:
                    entry.append(bytes_field(4, row.result or b"\x08\x01"))
                else:
                    entry.append(text_field(5, show(row.result) if row.result else "an exception"))
        if total > len(done):
            self.left_out.append(f"{total - len(done)} more calls: ask with max_entries")
        return bytes_field(4, join(bytes_field(1, join(entry)) for entry in done) + number_field(2, total))

    def _call(self, state: Folded, row: StepRow, frame: Any) -> list[bytes]:
        caller = state.frames.get(frame.row.caller)
        return [
            number_field(1, row.step),
            *(bytes_field(3, variable) for variable in self.writer.variables(frame, is_global=False)),
            number_field(6, row.depth),
            number_field(7, caller.line if caller is not None else 0),
        ]

    def lines_not_reached(self) -> bytes:
        recorder = self.trace.recorder
        assert recorder is not None
        reachable = self.trace.executable_lines
        reached = {row.line for row in self.trace.rows() if row.event == LINE}
        missed = sorted(reachable - reached)
        body = (
            range_fields(1, missed)
            + number_field(2, len(reachable))
            + number_field(3, len(reachable & reached))
        )
        return bytes_field(5, body)
