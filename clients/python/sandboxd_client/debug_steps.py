"""Steps of debug runs, out of messages that are complete and out of batches of differences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sandboxd_api.v1 import debug_pb2, step_pb2

from sandboxd_client import from_wire
from sandboxd_client.debug_values import debug_natural, debug_text
from sandboxd_client.results import LogEntry, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class StepVariable:
    """A variable at a step, as it is before the step's line runs."""

    name: str
    text: str
    """Its value as short text; empty when it is unbound."""
    value: Any = None
    before: Any = None
    """Its value at the frame's step before, where it changed."""
    changed: bool = False
    bound: bool = True
    is_global: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFrame:
    """One level of a call stack."""

    frame: int
    function: str
    line: int
    source_line: str = ""
    depth: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugStep:
    """One step of a debug run."""

    step: int
    line: int
    source_line: str
    event: str
    """`line`, `call`, `return`, `yield`, `resume`, `exception`, `unwind` or `expression`."""
    function: str
    status: Status = "running"
    thread: int = 1
    depth: int = 1
    stack: tuple[StackFrame, ...] = ()
    """Outermost first; empty in differences."""
    variables: Mapping[str, StepVariable] = field(default_factory=dict)
    """All that are shown in complete steps, those that changed in differences."""
    has_result: bool = False
    result: Any = None
    """The value of an expression, return, yield or exception."""
    result_text: str = ""
    stdout: str = ""
    """Written since the step before; empty in differences."""
    stdout_bytes: int = 0
    """Bytes written since the step before, in differences."""
    log: tuple[LogEntry, ...] = ()
    elapsed: timedelta = timedelta(0)
    """Run time since the start in complete steps, since the step before in differences."""
    left_out_variables: int = 0

    @property
    def changes(self) -> dict[str, StepVariable]:
        """The variables that changed since the frame's step before."""
        return {name: variable for name, variable in self.variables.items() if variable.changed}

    def __str__(self) -> str:
        changes = ", ".join(f"{item.name}={item.text or 'unbound'}" for item in self.changes.values())
        value = f" -> {self.result_text}" if self.has_result else ""
        return f"{self.line:>4} {self.event:<10} {self.source_line.rstrip()}{value}  {changes}".rstrip()


def step_event(event: int) -> str:
    """The word of an event."""
    return from_wire.word(step_pb2.StepEvent, event, "STEP_EVENT_")


def step_variable(found: debug_pb2.StepVariable) -> StepVariable:
    """A variable of a complete step."""
    bound = found.HasField("value")
    return StepVariable(
        name=found.name,
        text=found.text or (debug_text(found.value) if bound else ""),
        value=debug_natural(found.value) if bound else None,
        before=debug_natural(found.before) if found.HasField("before") else None,
        changed=found.changed,
        bound=bound,
        is_global=found.is_global,
    )


def stack_frame(found: debug_pb2.StackFrame) -> StackFrame:
    """One level of a call stack."""
    return StackFrame(
        frame=found.frame,
        function=found.function,
        line=found.line,
        source_line=found.source_line,
        depth=found.depth,
    )


def full_step(found: debug_pb2.FullStep) -> DebugStep:
    """A step that is complete by itself."""
    stack = tuple(stack_frame(frame) for frame in found.stack)
    variables: dict[str, StepVariable] = {}
    for item in found.variables:
        if item.name not in variables or not item.is_global:  # a local hides a global of its name
            variables[item.name] = step_variable(item)
    return DebugStep(
        step=found.step,
        line=found.line,
        source_line=found.source_line,
        event=step_event(found.event),
        function=stack[-1].function if stack else "",
        status=from_wire.status(found.state) if found.state else "running",
        thread=found.thread,
        depth=len(stack),
        stack=stack,
        variables=variables,
        has_result=found.HasField("result"),
        result=debug_natural(found.result) if found.HasField("result") else None,
        result_text=debug_text(found.result) if found.HasField("result") else "",
        stdout=found.stdout.decode(errors="replace"),
        stdout_bytes=len(found.stdout),
        log=tuple(from_wire.log_entry(entry) for entry in found.log_entries),
        elapsed=from_wire.span(found.elapsed),
        left_out_variables=found.left_out_variables,
    )


class BatchReader:
    """Turns batches into steps; ids of names, codes and frames go on counting from batch to batch."""

    def __init__(self, code: str) -> None:
        self._lines = code.splitlines()
        self._names: list[str] = [""]
        self._codes: list[str] = [""]
        self._frames: list[str] = [""]

    def read(self, batch: step_pb2.DebugBatch) -> Iterator[DebugStep]:
        """The steps of the next batch."""
        self._names += batch.names
        self._codes += [self._name(code.name) for code in batch.codes]
        self._frames += [
            self._codes[frame.code] if frame.code < len(self._codes) else "" for frame in batch.frames
        ]
        steps = batch.steps if batch.steps else list(_steps_of(batch.columns))
        for number, step in enumerate(steps, start=batch.first_step):
            yield self._step(number, step)

    def _step(self, number: int, step: step_pb2.Step) -> DebugStep:
        has_result = step.HasField("result")
        return DebugStep(
            step=number,
            line=step.line,
            source_line=self._lines[step.line - 1] if 0 < step.line <= len(self._lines) else "",
            event=step_event(step.event),
            function=self._frames[step.frame] if step.frame < len(self._frames) else "",
            thread=step.thread or 1,
            depth=step.depth,
            variables={
                variable.name: variable for variable in (self._change(change) for change in step.changes)
            },
            has_result=has_result,
            result=debug_natural(step.result) if has_result else None,
            result_text=debug_text(step.result) if has_result else "",
            stdout_bytes=step.stdout_bytes,
            elapsed=timedelta(microseconds=step.elapsed_nanos / 1000),
            left_out_variables=step.left_out_changes,
        )

    def _change(self, change: step_pb2.Change) -> StepVariable:
        name = self._name(change.name)
        kind = change.WhichOneof("change")
        if kind == "value":
            return StepVariable(
                name=name,
                text=debug_text(change.value),
                value=debug_natural(change.value),
                changed=True,
                is_global=change.is_global,
            )
        if kind == "patch":
            return StepVariable(
                name=name, text=_patch_text(change.patch), changed=True, is_global=change.is_global
            )
        return StepVariable(name=name, text="", changed=True, bound=False, is_global=change.is_global)

    def _name(self, number: int) -> str:
        return self._names[number] if 0 <= number < len(self._names) else f"name {number}"


def _patch_text(patch: step_pb2.ElementPatch) -> str:
    place = debug_text(patch.key) if patch.WhichOneof("place") == "key" else str(patch.index)
    value = debug_text(patch.value) if patch.HasField("value") else "removed"
    return f"[{place}] = {value} ({patch.length})"


def _at(column: Sequence[Any], place: int) -> Any:
    """A short column repeats its last entry; an empty one is all zeros."""
    if not column:
        return 0
    return column[place] if place < len(column) else column[-1]


def _steps_of(columns: step_pb2.StepColumns) -> Iterator[step_pb2.Step]:
    """Columns as steps."""
    results = dict(zip(columns.result_steps, columns.results, strict=False))
    changes = _changes_of(columns)
    for place in range(columns.step_count):
        count = columns.change_counts[place] if place < len(columns.change_counts) else 0
        yield step_pb2.Step(
            line=_at(columns.lines, place),
            event=_at(columns.events, place),
            frame=_at(columns.frames, place),
            depth=_at(columns.depths, place),
            thread=_at(columns.threads, place),
            elapsed_nanos=_at(columns.elapsed_nanos, place),
            stdout_bytes=_at(columns.stdout_bytes, place),
            changes=[next(changes) for _ in range(count)],
            result=results.get(place),
        )


def _changes_of(columns: step_pb2.StepColumns) -> Iterator[step_pb2.Change]:
    integers = iter(columns.change_integers)
    others = iter(columns.other_changes)
    kinds = step_pb2.StepColumns
    for place, name in enumerate(columns.change_names):
        kind = _at(columns.change_kinds, place)
        if kind == kinds.CHANGE_KIND_INTEGER:
            yield step_pb2.Change(name=name, value=step_pb2.DebugValue(integer=next(integers)))
        elif kind == kinds.CHANGE_KIND_UNBOUND:
            yield step_pb2.Change(name=name, unbound=True)
        else:
            yield next(others)
