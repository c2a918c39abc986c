"""A trace as text: short enough for an agent, and saying what it leaves out."""

from sandboxd.guest.debug.folding import Folded, StepRow
from sandboxd.guest.debug.full_steps import StepWriter
from sandboxd.guest.debug.options import CALL, EXCEPTION, EXPRESSION, RESUME, RETURN, UNWIND, YIELD
from sandboxd.guest.debug.query import QueryLimits, TraceText
from sandboxd.guest.debug.show import show
from sandboxd.guest.debug.trace import Trace

_MARKS = {CALL: ">", RETURN: "<", YIELD: "^", RESUME: "v", EXCEPTION: "!", UNWIND: "<!", EXPRESSION: "="}
_VALUE_CHARACTERS = 40
_REPORT_VARIABLES = 8
LEGEND = "> call, < return, ^ yield, v resume, ! exception, <! left by exception, = value"


def trace_text(
    trace: Trace, writer: StepWriter, query: TraceText, limits: QueryLimits
) -> tuple[str, int, list[str]]:
    """The text, how many steps it covers and what is left out. A step is `line name=value ...`: what
    changed before that line."""
    out: list[str] = []
    used = steps = left = 0
    last = query.to_step or None
    for state, row in trace.walk(query.from_step):
        if last is not None and row.step > last:
            break
        text = step_text(writer, state, row, with_source=query.with_source)
        if left or used + len(text) + 1 > limits.max_characters:
            left += 1
            continue
        out.append(text)
        used += len(text) + 1
        steps += 1
    first = query.from_step + steps
    notes = [f"{left} steps: ask with from_step {first} or max_characters"] if left else []
    return "\n".join(out), steps, notes


def step_text(writer: StepWriter, state: Folded, row: StepRow, *, with_source: bool = False) -> str:
    """One step."""
    parts = [str(row.line)]
    mark = _MARKS.get(row.event)
    if mark is not None:
        frame = state.frames.get(row.frame)
        named = row.event in (CALL, RESUME) and frame is not None
        parts.append(mark + (writer.code_of(frame).name if named and frame is not None else ""))
    for name, picture, patch, _is_global in row.changes:
        if patch is not None:
            parts.append(f"{writer.name(name)}[{patch[0]}]={show(patch[1], _VALUE_CHARACTERS)}")
        elif picture is None:
            parts.append(f"-{writer.name(name)}")
        else:
            parts.append(f"{writer.name(name)}={show(picture, _VALUE_CHARACTERS)}")
    if row.result is not None:
        parts.append(show(row.result, _VALUE_CHARACTERS))
    if with_source:
        frame = state.frames.get(row.frame)
        parts.append("# " + (writer.code_of(frame).source.text(row.line).strip() if frame else ""))
    return " ".join(parts)


def failure_report(
    trace: Trace, writer: StepWriter, change_count: int, limits: QueryLimits
) -> tuple[str, list[str]]:
    """Where the program failed, with frames, variables and the last changes of the names in the line."""
    failure: tuple[StepRow, Folded] | None = None
    for state, row in trace.walk():
        if row.event == EXCEPTION:
            failure = (row, state.copy())
    if failure is None:
        return "no exception was raised", []
    row, state = failure
    names = _names_on(writer, state, row)
    frames = [_frame_text(writer, state, number) for number in reversed(state.stacks.get(row.thread, []))]
    changes = _last_changes(trace, writer, row, names, change_count)
    frame = state.frames[row.frame]
    head = [
        f"{show(row.result, 120) if row.result else 'exception'} at step {row.step}, line {row.line}",
        f"  {writer.code_of(frame).source.text(row.line).strip()}",
    ]
    return _fit(head, frames, changes, limits.max_characters)


def _fit(head: list[str], frames: list[str], changes: list[str], room: int) -> tuple[str, list[str]]:
    out = head[:]
    left = {"frames": 0, "changes": 0}
    for kind, lines, title in (("frames", frames, "frames:"), ("changes", changes, "last changes:")):
        if not lines:
            continue
        out.append(title)
        share = room if kind == "changes" else room * 2 // 3
        for line in lines:
            if sum(map(len, out)) + len(out) + len(line) > share:
                left[kind] += 1
            else:
                out.append(line)
    notes = [f"{count} {kind}: ask with max_characters" for kind, count in left.items() if count]
    return "\n".join(out), notes


def _frame_text(writer: StepWriter, state: Folded, number: int) -> str:
    frame = state.frames[number]
    shown = [
        f"{writer.name(name)}={show(picture, _VALUE_CHARACTERS)}"
        for name, picture in frame.variables.items()
        if not show(picture).startswith(("<function", "<class"))
    ]
    more = f" ({len(shown) - _REPORT_VARIABLES} more)" if len(shown) > _REPORT_VARIABLES else ""
    plan = writer.code_of(frame)
    return f"  {plan.name}:{frame.line} {' '.join(shown[:_REPORT_VARIABLES])}{more}"


def _names_on(writer: StepWriter, state: Folded, row: StepRow) -> frozenset[str]:
    frame = state.frames[row.frame]
    return writer.code_of(frame).statement(row.line).names


def _last_changes(
    trace: Trace, writer: StepWriter, failure: StepRow, names: frozenset[str], count: int
) -> list[str]:
    found: dict[str, list[str]] = {}
    executed: dict[int, int] = {}
    for row in trace.rows(last=failure.step):
        for name, picture, patch, is_global in row.changes:
            text = writer.name(name)
            if text in names and (is_global or row.frame in (failure.frame, 1)):
                shown = "unbound" if picture is None else show(picture, _VALUE_CHARACTERS)
                place = f"[{patch[0]}]" if patch is not None else ""
                value = show(patch[1], _VALUE_CHARACTERS) if patch is not None else shown
                line = executed.get(row.frame, row.line)
                found.setdefault(text, []).append(f"  {text}{place}={value} by line {line}, step {row.step}")
                del found[text][:-count]
        executed[row.frame] = row.line
    return [line for lines in found.values() for line in lines if "<function" not in line]
