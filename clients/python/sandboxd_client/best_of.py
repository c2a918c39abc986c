"""The best of several pieces of code, each run in a branch of one sandbox."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sandboxd_client.options import Span
from sandboxd_client.results import ExecutionResult

if TYPE_CHECKING:
    from sandboxd_client.sandbox import Sandbox

Score: TypeAlias = Callable[[ExecutionResult], float | Awaitable[float]]
"""Judges a result; the highest wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """Which candidate won, and how each one did."""

    index: int | None
    """The winner's place among the candidates; None when none completed."""
    results: tuple[ExecutionResult, ...]
    """One a candidate, in order."""
    scores: tuple[float | None, ...]
    """One a candidate, in order; None for one that did not complete."""
    sandbox: "Sandbox | None"
    """The winner's branch."""

    @property
    def result(self) -> ExecutionResult | None:
        """The winner's result."""
        return None if self.index is None else self.results[self.index]


async def best_of(
    origin: "Sandbox", candidates: Sequence[str], *, score: Score | None, timeout: Span | None
) -> Best:
    """Runs each candidate in its own branch and keeps only the winner's; `origin` stays as it is."""
    branches = await origin.branches(len(candidates))
    winner: int | None = None
    try:
        results = await asyncio.gather(
            *(_run(branch, code, timeout) for branch, code in zip(branches, candidates, strict=True))
        )
        scores = [await _score(score, result) for result in results]
        rated = [(value, -place) for place, value in enumerate(scores) if value is not None]
        winner = -max(rated)[1] if rated else None
    finally:
        losers = [branch for place, branch in enumerate(branches) if place != winner]
        await asyncio.gather(*(loser.delete() for loser in losers))
    return Best(
        index=winner,
        results=tuple(results),
        scores=tuple(scores),
        sandbox=None if winner is None else branches[winner],
    )


async def _run(branch: "Sandbox", code: str, timeout: Span | None) -> ExecutionResult:
    return await (branch.execute(code) if timeout is None else branch.execute(code, timeout=timeout))


async def _score(score: Score | None, result: ExecutionResult) -> float | None:
    if not result.completed:
        return None
    if score is None:
        return 0.0
    value = score(result)
    return float(await value if inspect.isawaitable(value) else value)
