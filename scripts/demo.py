"""Shows the main job on a server of its own, step by step; ends with 1 when a step does not do what it says.

Run by `./run demo`. Nothing of it is left behind.
"""

import asyncio
import sys
import tempfile
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from sandboxd_client import (
    Client,
    ExecutionResult,
    Finished,
    Limits,
    NotImplementedYet,
    Sandbox,
    Stdout,
)
from sandboxd_client.debug_steps import DebugStep
from sandboxd_client.debug_stops import Stopped
from sandboxd_client.debugging import DebugFinished

from sandboxd.cli.embedded import embedded_client

sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a real stream when run as a program
_OUT = Console(highlight=False, soft_wrap=True)

Step = Callable[["Demo"], Awaitable[None]]
_STEPS: list[tuple[str, Step]] = []


class StepFailed(Exception):
    """A step did not do what it says."""


def step(title: str) -> Callable[[Step], Step]:
    """Adds a function to the demonstration."""

    def add(function: Step) -> Step:
        _STEPS.append((title, function))
        return function

    return add


def expect(condition: object, what: str) -> None:
    """`StepFailed` with `what` unless the condition holds."""
    if not condition:
        raise StepFailed(what)


class Demo:
    """What the steps share: a client, and one sandbox that lives through most of them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._sandbox: Sandbox | None = None

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox of the demonstration; made by the first step."""
        assert self._sandbox is not None
        return self._sandbox

    @sandbox.setter
    def sandbox(self, found: Sandbox) -> None:
        self._sandbox = found

    async def run(self, code: str, **options: float) -> ExecutionResult:
        """Shows a piece of code, runs it in the sandbox, shows how it ended."""
        code = textwrap.dedent(code).strip()
        show_code(code)
        start = time.perf_counter()
        result = await self.sandbox.execute(code, **options)  # type: ignore[arg-type] # only timeouts here
        show_result(result, time.perf_counter() - start)
        return result


def say(text: str) -> None:
    """One line of the story."""
    _OUT.print(f"  {escape(text)}")


def show_code(code: str) -> None:
    """The code that is about to run."""
    for line in code.splitlines():
        _OUT.print(f"    [cyan]{escape(line)}[/cyan]")


def show_result(result: ExecutionResult, seconds: float) -> None:
    """How it ended, in a few lines."""
    for line in result.stdout.splitlines():
        _OUT.print(f"    [dim]|[/dim] {escape(line)}")
    colour = "green" if result.completed else "yellow"
    value = ""
    if result.has_result:
        text = str(result.result)
        value = f": {escape(text if len(text) < 300 else text[:300] + ' ...')}"
    _OUT.print(f"    [{colour}]{result.status}[/{colour}] in {seconds * 1000:.1f} ms{value}")


@step("Create a sandbox")
async def create(demo: Demo) -> None:
    """A sandbox with limits of its own."""
    limits = Limits(execution_timeout=10, memory_bytes=256 << 20)
    start = time.perf_counter()
    demo.sandbox = await demo.client.create_sandbox(limits=limits, enable_debugging=True)
    say(f"{demo.sandbox.id}, ready in {(time.perf_counter() - start) * 1000:.1f} ms, numpy and pandas loaded")
    capabilities = await demo.client.capabilities()
    missing = [layer.name for layer in capabilities.isolation_layers if layer.state == "missing"]
    say(
        f"isolation grade {capabilities.isolation_grade}; layers missing here: {', '.join(missing) or 'none'}"
    )
    expect(demo.sandbox.info.state == "active", "the sandbox is not active")


@step("Variables, functions and imports stay")
async def state(demo: Demo) -> None:
    """A session lives between executions."""
    await demo.run(
        """
        import math
        radii = [1, 2, 3]
        def area(r): return round(math.pi * r * r, 2)
        """
    )
    result = await demo.run("[area(r) for r in radii]")
    expect(result.result == [3.14, 12.57, 28.27], "the session forgot something")


@step("Analyze data with pandas")
async def pandas_analysis(demo: Demo) -> None:
    """A table goes in as CSV and comes out typed."""
    orders = "region,item,price,count\nnorth,tea,2.5,10\nsouth,tea,2.4,30\nnorth,cup,7.0,3\nsouth,cup,6.5,8\n"
    say("data goes in as CSV, the answer comes back as a typed table")
    code = (
        "revenue = data.assign(revenue=data.price * data['count'])\n"
        "revenue.groupby('region')['revenue'].agg(['sum', 'mean']).reset_index()"
    )
    show_code(code)
    result = await demo.client.analyze_data(orders, code=code)
    expect(result.completed, str(result.error))
    for line in str(result.result).splitlines():
        _OUT.print(f"    [dim]|[/dim] {escape(line.expandtabs(12))}")
    expect(list(result.result["sum"].values) == [46.0, 124.0], "the sums are wrong")


@step("Follow output while it appears")
async def streaming(demo: Demo) -> None:
    """Output arrives while the code runs."""
    code = (
        "import asyncio\nfor n in range(4):\n    print('step', n, flush=True)\n    await asyncio.sleep(0.15)"
    )
    show_code(code)
    start, times = time.perf_counter(), []
    async for event in demo.sandbox.stream(code):
        if isinstance(event, Stdout):
            times.append(time.perf_counter() - start)
            _OUT.print(f"    [dim]+{times[-1] * 1000:4.0f} ms[/dim] {escape(event.text.rstrip())}")
        elif isinstance(event, Finished):
            expect(event.result.completed, str(event.result.error))
    expect(len(times) == 4 and times[-1] - times[0] > 0.3, "the output came all at once")


@step("Survive a runaway loop")
async def timeout(demo: Demo) -> None:
    """A timeout ends the code, not the session."""
    result = await demo.run("while True:\n    pass", timeout=0.5)
    expect(result.status == "timed_out", "the loop was not ended as timed out")
    expect(result.limit_receipt is not None, "there is no limit receipt")
    say(f"limit receipt: {result.limit_receipt}")
    say(f"session: {result.session}")
    result = await demo.run("radii, area(10)")
    expect(result.result == ([1, 2, 3], 314.16), "the session did not survive")


@step("Explain a blocked import before anything runs")
async def blocked_import(demo: Demo) -> None:
    """Rules tell line, column and an alternative."""
    result = await demo.run("print('not reached')\nimport subprocess")
    expect(result.error is not None and result.error.violations, "the import was not refused")
    expect(result.stdout == "", "the code before the import ran")
    assert result.error is not None
    for violation in result.error.violations:
        say(str(violation))


@step("Tell errors with the user's own lines")
async def error(demo: Demo) -> None:
    """A traceback in the user's own line numbers, with the variables of the frame."""
    result = await demo.run("def ratio(a, b):\n    return a / b\n\nratio(1, 0)")
    expect(result.error is not None and result.error.line == 2, "the error is not located")
    assert result.error is not None
    for line in result.error.traceback.splitlines()[1:]:
        _OUT.print(f"    [dim]|[/dim] {escape(line)}")
    variables = {variable.name: variable.summary for variable in result.error.frames[-1].variables}
    say(f"variables there: {variables}")
    expect(variables == {"a": "1", "b": "0"}, "the frame's variables are missing")


@step("Query a database, read-only and audited")
async def database(demo: Demo) -> None:
    """SQL leaves the sandbox over its channel; writes need a grant."""
    result = await demo.run(
        """
        rows = await db_query(
            'SELECT plan, COUNT(*) AS users FROM users GROUP BY plan ORDER BY users DESC LIMIT :n', {'n': 3}
        )
        rows
        """
    )
    expect(result.completed and result.result, f"no rows came back: {result.error}")
    refused = await demo.run("await db_query('DELETE FROM users')")
    expect(refused.status == "failed", "a write was not refused")
    assert refused.error is not None
    say(refused.error.message)
    say("the audit has both:")
    for record in reversed(await demo.sandbox.audit(limit=2)):
        say(f"  {record.verdict:<9} {record.sql.split('FROM')[0].strip()[:40]}... {record.reason}")


@step("Debug: every line, every change")
async def debug(demo: Demo) -> None:
    """Steps as a stream."""
    code = textwrap.dedent(
        """
        data = [1, 2, 3]
        result = []
        for item in data:
            processed = item * 2
            result.append(processed)
        __result__ = result
        """
    ).strip()
    steps = 0
    async for event in demo.sandbox.debug(code):
        if isinstance(event, DebugStep):
            steps += 1
            _OUT.print(f"    {escape(str(event))}")
        elif isinstance(event, DebugFinished):
            expect(event.result.result == [2, 4, 6], "the debugged code gave another result")
            summary = event.summary
            say(f"{summary.step_count} steps, recorded by {summary.engine}")
    expect(steps >= 12, "steps are missing")


@step("Debug: stop where it matters, and ask when a name changed")
async def debug_session(demo: Demo) -> None:
    """A breakpoint, a look into the frame, a step out; then a question about the past."""
    code = textwrap.dedent(
        """
        def mean(values):
            total = 0
            for value in values:
                total += value
            return total / len(values)

        averages = []
        for row in [[1, 2, 3], [4, 6]]:
            averages.append(mean(row))
        """
    ).strip()
    async with demo.sandbox.debug_session(code, breakpoints=[5]) as session:
        stop = await session.wait()
        expect(isinstance(stop, Stopped) and stop.line == 5, "the breakpoint was not reached")
        for line in str(stop).splitlines():
            _OUT.print(f"    [dim]|[/dim] {escape(line)}")
        say(f"total / 3 there is {await session.evaluate('total / 3')}")
        stop = await session.step_out()
        expect(
            isinstance(stop, Stopped) and str(stop.result) == "2.0", "the function returned something else"
        )
        say("stepping out of it stops at its return, with 2.0")
    await demo.sandbox.execute("del averages, mean, row")  # so that the next run begins as the first one did
    finished = None
    async for event in demo.sandbox.debug(code):
        if isinstance(event, DebugFinished):
            finished = event
    assert finished is not None
    answer = await demo.client.trace(finished.result.execution_id).when_changed("averages")
    say("when did averages change?")
    for change in answer.changes:
        _OUT.print(f"    step {change.step}, line {change.line}: {escape(change.text)}")
    expect(len(answer.changes) >= 3, "a change of averages is missing")


@step("Branch a live session")
async def branch(demo: Demo) -> None:
    """A branch shares the past, not the future."""
    await demo.run("balance = 100")
    start = time.perf_counter()
    async with demo.sandbox.branch() as other:
        say(f"branch {other.id} in {(time.perf_counter() - start) * 1000:.1f} ms")
        await other.execute("balance -= 70")
        there = (await other.execute("balance")).result
        here = (await demo.sandbox.execute("balance")).result
        say(f"balance in the branch {there}, in the origin {here}")
        expect((here, there) == (100, 30), "branch and origin are not independent")


_CRASH = """
balance = 0
import numpy as np
# a view over memory that is not there: the interpreter dies by a segmentation fault
np.lib.stride_tricks.as_strided(np.zeros(1), shape=(1 << 40,), strides=(1 << 20,)).sum()
"""


@step("Survive a crash")
async def crash(demo: Demo) -> None:
    """A crashed interpreter comes back with the state before."""
    result = await demo.run(_CRASH)
    expect(result.status == "failed", "the crash went unnoticed")
    say(f"session: {result.session}")
    if result.session.state != "restored":
        raise NotImplementedYet("restoring a session after a crash", metadata={})
    after = await demo.run("balance")
    expect(after.result == 100, "the state before the crash did not come back")


@step("Try several answers, keep the best")
async def best_of(demo: Demo) -> None:
    """Candidates run in branches; the winner's state goes on."""
    candidates = ["answer = sum(radii)", "answer = radii[9]", "answer = max(radii) ** 3"]
    best = await demo.sandbox.best_of(
        [f"{code}\nanswer" for code in candidates], score=lambda result: result.result
    )
    for code, result in zip(candidates, best.results, strict=True):
        say(f"{code:<28} {result.status}: {result.result if result.completed else result.error}")
    expect(best.index == 2, "the best one did not win")
    expect((await demo.run("answer")).result == 27, "the winner's state did not go on")


@step("Rewind")
async def rewind(demo: Demo) -> None:
    """An earlier state becomes the session again."""
    await demo.sandbox.checkpoint("before")
    await demo.run("del radii\nanswer = None")
    await demo.sandbox.rewind("before")
    expect((await demo.run("radii, answer")).result == ([1, 2, 3], 27), "the state did not come back")


@step("Look back")
async def history(demo: Demo) -> None:
    """What happened can be asked for."""
    stats = await demo.client.statistics()
    say(
        f"{stats.finished_execution_count} executions, {stats.success_percent:.0f} % completed, "
        f"{stats.average_execution_time.total_seconds() * 1000:.1f} ms on average"
    )
    for item in await demo.sandbox.history(limit=3):
        say(f"  #{item.number} {item.status}")
    expect(stats.finished_execution_count >= 8, "executions are missing from the statistics")


@step("Clean up")
async def clean_up(demo: Demo) -> None:
    """Nothing of a deleted sandbox is left."""
    await demo.sandbox.delete()
    expect(demo.sandbox.info.state == "deleted", "the sandbox is not deleted")
    expect(await demo.client.list_sandboxes() == [], "a sandbox is left")
    say("deleted: its processes, files and checkpoints are gone; the server goes next")


async def _show(demo: Demo) -> tuple[int, int, int]:
    done = skipped = failed = 0
    for number, (title, function) in enumerate(_STEPS, start=1):
        _OUT.print(f"\n[bold]{number}. {title}[/bold]")
        try:
            await function(demo)
        except NotImplementedYet as error:
            skipped += 1
            _OUT.print(f"  [yellow]not offered by this server: {escape(str(error))}[/yellow]")
        except StepFailed as error:
            failed += 1
            _OUT.print(f"  [red]FAILED: {escape(str(error))}[/red]")
        else:
            done += 1
    return done, skipped, failed


async def main() -> int:
    """Runs every step; 0 when all did what they say."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-demo-") as directory:
        _OUT.print("[bold]sandboxd[/bold]: starting a server of its own on a free port")
        async with embedded_client(Path(directory)) as client:
            _OUT.print(f"  listening on {client.address}, state in {directory}")
            done, skipped, failed = await _show(Demo(client))
    _OUT.print(f"\n{done} steps done, {skipped} not offered, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
