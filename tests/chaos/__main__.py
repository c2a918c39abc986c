"""`./run chaos`: every row of the fault matrix against servers of its own, as a table of figures and bars."""

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sandboxd import logs
from tests.chaos import callers, databases, kernel, killing, steps, stopping, storage
from tests.chaos.model import Case, NotRun, Outcome, Watch, judged, not_run, shown

CASES: tuple[Case, ...] = (
    *killing.CASES,
    *stopping.CASES,
    *callers.CASES,
    *storage.CASES,
    *databases.CASES,
    *kernel.CASES,
    *steps.CASES,
)
_CLEAR_LINE = "\r\x1b[K"


def _run(case: Case, rounds: int) -> Outcome:
    watch = Watch(case=case, round_count=rounds, tick=_show_progress)
    started = time.monotonic()
    try:
        case.run(watch)
    except NotRun as reason:
        return not_run(watch, str(reason))
    except Exception as error:  # noqa: BLE001  one case that breaks must not hide the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = type(error).__name__
        watch.missed.append(f"broke off in round {watch.done + 1}: {kind}: {error} ({place.name})")
    return judged(watch, seconds=time.monotonic() - started)


def _show_progress(watch: Watch) -> None:
    if sys.stderr.isatty():
        case = watch.case
        sys.stderr.write(f"{_CLEAR_LINE}{case.row} {case.what}: {watch.done}/{watch.round_count}")
        sys.stderr.flush()


def _print_line(outcome: Outcome) -> None:
    """What a long run says as it goes."""
    case = outcome.case
    clear = _CLEAR_LINE if sys.stderr.isatty() else ""
    took = f"{outcome.rounds} rounds, {outcome.seconds:.0f} s"
    sys.stderr.write(f"{clear}{outcome.verdict:>8}  {case.row} {case.what}, {took}\n")
    sys.stderr.flush()


def _print_table(outcomes: Sequence[Outcome]) -> None:
    table = Table("row", "what", "rounds", "figure", "bar", "passed", box=None)
    for outcome in outcomes:
        passed = {"passed": "[green]yes[/green]", "MISSED": "[red]NO[/red]", "not run": "not run"}
        figure = outcome.figure_text if outcome.verdict != "not run" else outcome.problems[0]
        table.add_row(
            outcome.case.row,
            outcome.case.what,
            str(outcome.rounds),
            escape(figure),
            outcome.bar_text or "as it should",
            passed[outcome.verdict],
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    console.print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, load average at the end {load}: "
        "bars in seconds are for a machine that has a core to spare"
    )
    for outcome in outcomes:
        for remark in outcome.remarks:
            console.print(f"note {outcome.case.row} {outcome.case.what}: {escape(remark)}", soft_wrap=True)


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "row": outcome.case.row,
        "what": outcome.case.what,
        "rounds": outcome.rounds,
        "figures": {name: float(shown(value)) for name, value in outcome.figures.items()},
        "bars": [dataclasses.asdict(bar) for bar in outcome.case.bars],
        "verdict": outcome.verdict,
        "problems": outcome.problems,
        "remarks": outcome.remarks,
        "seconds": round(outcome.seconds, 1),
    }


def _missed(outcomes: Sequence[Outcome]) -> list[str]:
    """One line a missed case: the first problems name it well enough."""
    lines = []
    for outcome in outcomes:
        if outcome.verdict == "MISSED":
            shown_problems = "; ".join(outcome.problems[:5])
            more = f"; and {len(outcome.problems) - 5} more" if len(outcome.problems) > 5 else ""
            lines.append(f"{outcome.case.row} {outcome.case.what}: {shown_problems}{more}")
    return lines


def main() -> int:
    """Runs and prints; 1 when a row missed its bar, each of them named."""
    parser = argparse.ArgumentParser(prog="./run chaos", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="few rounds: minutes instead of hours")
    parser.add_argument("--rounds", type=int, help="so many rounds of every case")
    parser.add_argument("--only", metavar="ROW", help="rows to run, as letters: --only AB", default="")
    arguments = parser.parse_args()
    rows = {case.row for case in CASES}
    unknown = set(arguments.only.upper()) - rows
    if unknown or (arguments.rounds is not None and arguments.rounds < 1):
        what = f"no row {', '.join(sorted(unknown))}" if unknown else "--rounds must be at least 1"
        parser.error(f"{what}; rows are {''.join(sorted(rows))}")
    logs.configure(
        style="auto", level="warning"
    )  # to standard error: some rows use the store in this process
    outcomes = []
    for case in CASES:
        if arguments.only and case.row not in arguments.only.upper():
            continue
        rounds = arguments.rounds or (case.quick_rounds if arguments.quick else case.rounds)
        outcome = _run(case, rounds)
        _print_line(outcome)
        outcomes.append(outcome)
    if arguments.json:
        print(json.dumps([_as_json(outcome) for outcome in outcomes]))
    else:
        _print_table(outcomes)
    for line in _missed(outcomes):
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if _missed(outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
