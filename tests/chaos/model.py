"""What a case of the fault matrix is, and what came of it."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias


class NotRun(Exception):
    """This machine can't show it; the text says why. Never counted as passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A figure and the most it may be."""

    name: str
    most: float
    unit: str = "s"
    of: Literal["worst", "p99"] = "worst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault in one situation; a row of the matrix has one or several."""

    row: str
    """Its letter."""
    what: str
    bars: tuple[Bar, ...]
    """Figures that are measured; that every round does what it should is a bar of every case."""
    rounds: int
    quick_rounds: int
    run: "Callable[[Watch], None]"


@dataclass(slots=True, kw_only=True)
class Watch:
    """What a running case reports to: its rounds, its figures, what went wrong."""

    case: Case
    round_count: int
    tick: Callable[["Watch"], None]
    """Called before each round."""
    done: int = 0
    figures: dict[str, list[float]] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def rounds(self, count: int | None = None) -> Iterator[int]:
        """Numbers of the rounds to do; several calls share the count of the case between them."""
        for _ in range(self.round_count if count is None else count):
            self.tick(self)
            yield self.done
            self.done += 1

    def measure(self, name: str, value: float) -> None:
        """One value of the figure called `name`."""
        self.figures.setdefault(name, []).append(value)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measures the seconds that the block takes; nothing when it raises."""
        started = time.monotonic()
        yield
        self.measure(name, time.monotonic() - started)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Notes what went wrong; the case goes on."""
        if not holds:
            self.missed.append(otherwise)

    def remark(self, text: str) -> None:
        """Something the reader of the table should know."""
        if text not in self.remarks:
            self.remarks.append(text)


Verdict: TypeAlias = Literal["passed", "MISSED", "not run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A line of the table."""

    case: Case
    verdict: Verdict
    rounds: int
    figures: dict[str, float]
    """By the name of its bar."""
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    seconds: float

    @property
    def figure_text(self) -> str:
        """All figures on one line."""
        units = {bar.name: bar.unit for bar in self.case.bars}
        return ", ".join(f"{name} {shown(value)} {units[name]}" for name, value in self.figures.items())

    @property
    def bar_text(self) -> str:
        """All bars on one line."""
        return ", ".join(
            f"{bar.name} <= {shown(bar.most)} {bar.unit}{' (p99)' if bar.of == 'p99' else ''}"
            for bar in self.case.bars
        )


def judged(watch: Watch, *, seconds: float) -> Outcome:
    """The line of a case that ran to its end."""
    problems = list(watch.missed)
    figures = {}
    for bar in watch.case.bars:
        values = sorted(watch.figures.get(bar.name, []))
        if not values:
            problems.append(f"{bar.name}: nothing was measured")
            continue
        figures[bar.name] = values[-1] if bar.of == "worst" else values[math.ceil(0.99 * len(values)) - 1]
        if not figures[bar.name] <= bar.most:
            problems.append(
                f"{bar.name}: {shown(figures[bar.name])} {bar.unit}, the bar is {shown(bar.most)}"
            )
    return Outcome(
        case=watch.case,
        verdict="MISSED" if problems else "passed",
        rounds=watch.done,
        figures=figures,
        problems=tuple(problems),
        remarks=tuple(watch.remarks),
        seconds=seconds,
    )


def not_run(watch: Watch, reason: str) -> Outcome:
    """The line of a case that this machine can't show."""
    return Outcome(
        case=watch.case, verdict="not run", rounds=0, figures={}, problems=(reason,), remarks=(), seconds=0.0
    )


def shown(value: float) -> str:
    """A number in as few digits as say something."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
