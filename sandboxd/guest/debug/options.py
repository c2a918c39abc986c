"""How a run is traced."""

from dataclasses import dataclass, field
from typing import Literal

from sandboxd.guest.debug.values import ValueLimits

Detail = Literal["full", "delta", "lines", "summary"]

LINE, CALL, RETURN, YIELD, RESUME, EXCEPTION, UNWIND, EXPRESSION = range(1, 9)
"""`StepEvent` on the wire."""
EVENT_NAMES = ("", "line", "call", "return", "yield", "resume", "exception", "unwind", "expression")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFilter:
    """Which steps are recorded; parts that are set must all match."""

    functions: frozenset[str] = frozenset()
    line_ranges: tuple[tuple[int, int], ...] = ()
    names: frozenset[str] = frozenset()
    events: frozenset[int] = frozenset()
    every_nth: int = 1
    max_steps: int = 1_000_000
    max_depth: int = 0
    """0 means no bound."""

    @property
    def is_open(self) -> bool:
        """Whether it lets every step pass, up to `max_steps`."""
        narrow = self.functions or self.line_ranges or self.events or self.names
        return not narrow and self.every_nth <= 1 and self.max_depth <= 0

    def accepts(self, function: str, line: int, event: int, depth: int) -> bool:
        """Whether a step passes, `names` and `every_nth` aside."""
        if self.functions and function not in self.functions:
            return False
        if self.line_ranges and not any(first <= line <= last for first, last in self.line_ranges):
            return False
        if self.events and event not in self.events:
            return False
        return not (self.max_depth and depth > self.max_depth)


class Sieve:
    """A filter at work: knows how many steps have passed."""

    def __init__(self, step_filter: StepFilter) -> None:
        self._filter = step_filter
        self._count = 0

    def passes(self, function: str, line: int, event: int, depth: int) -> bool:
        """Whether the next step passes, `names` aside."""
        accepted = self._filter.accepts(function, line, event, depth)
        if accepted and self._filter.every_nth > 1:
            self._count += 1
            accepted = self._count % self._filter.every_nth == 1
        return accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """How a run is traced."""

    detail: Detail = "delta"
    by_line: bool = False
    """Each line the interpreter visits is a step, not each statement."""
    filter: StepFilter = field(default_factory=StepFilter)
    values: ValueLimits = field(default_factory=ValueLimits)
    batch_steps: int = 1024
    flush_interval_ns: int | None = 50_000_000
    """None where nobody waits for steps: they are handed over when there are many."""
