"""`sandboxd debug`: a file line by line, as a listing of steps or interactively."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sandboxd.cli.connection import answers, client_for_run, read_code, sandbox_for_run
from sandboxd.cli.output import FAILED, AsJson, explained, print_json, say

if TYPE_CHECKING:
    from sandboxd_client import DebugFinished, DebugStep, Sandbox
    from sandboxd_client.client import CreateOptions
    from sandboxd_client.debugging import TraceOptions


def command(
    file: Annotated[str, typer.Argument(help="Python file; `-` reads standard input.")],
    breakpoints: Annotated[
        list[int] | None, typer.Option("--break", "-b", help="Stop at this line; may be repeated.")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Stop before the first line and take commands.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="Server, host:port or unix:/path [SANDBOXD_ADDRESS, else local].")
    ] = None,
    sandbox_id: Annotated[
        str | None, typer.Option("--sandbox", help="Sandbox to run in; default: one for this run.")
    ] = None,
    function: Annotated[
        list[str] | None, typer.Option(help="Only steps in this function; may be repeated.")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="Only this variable; may be repeated.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Record at most so many steps.")] = None,
    granularity: Annotated[
        Literal["statement", "line"], typer.Option(help="What one step is.")
    ] = "statement",
    embedded: Annotated[bool, typer.Option("--embedded", help="Use a server inside this process.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run code line by line. Prints each step with what changed, or with --break or -i stops and takes
    commands: `help` lists them. With --json one document a step."""
    code = read_code(file, as_json=as_json)
    trace: TraceOptions = {"granularity": granularity, "functions": function or [], "names": name or []}
    if max_steps is not None:
        trace["max_steps"] = max_steps
    with explained(as_json=as_json):
        if not embedded and address is None:
            embedded = sandbox_id is None and not answers(as_json=as_json)
        finished = asyncio.run(
            _run(
                code,
                trace,
                where=(address, sandbox_id, embedded),
                stops=(list(breakpoints or []), interactive),
                as_json=as_json,
            )
        )
    _report(finished, as_json=as_json)


async def _run(
    code: str,
    trace: "TraceOptions",
    *,
    where: tuple[str | None, str | None, bool],
    stops: tuple[list[int], bool],
    as_json: bool,
) -> "DebugFinished":
    address, sandbox_id, embedded = where
    breakpoints, stop_at_entry = stops
    options: CreateOptions = {"enable_debugging": True}
    async with (
        client_for_run(address, embedded=embedded) as client,
        sandbox_for_run(client, sandbox_id, options) as sandbox,
    ):
        if breakpoints or stop_at_entry:
            from sandboxd.cli.debug_prompt import converse

            return await converse(sandbox, code, breakpoints, stop_at_entry=stop_at_entry)
        return await _listed(sandbox, code, trace, as_json=as_json)


async def _listed(sandbox: "Sandbox", code: str, trace: "TraceOptions", *, as_json: bool) -> "DebugFinished":
    from rich.console import Console
    from sandboxd_client import DebugFinished, DebugStep
    from sandboxd_client.debugging import DebugLogged, DebugOutput

    console = Console(highlight=False, soft_wrap=True)
    async for event in sandbox.debug(code, trace):
        match event:
            case DebugStep():
                if as_json:
                    print_json(_step(event))
                else:
                    console.print(step_markup(event))
            case DebugOutput(text=text) if not as_json:
                console.print(text, end="", markup=False, style="dim")
            case DebugLogged(entry=entry) if not as_json:
                say(str(entry))
            case DebugFinished():
                return event
            case _:
                pass
    raise AssertionError("a debug run ends with DebugFinished or an error")


def step_markup(step: "DebugStep") -> str:
    """One line: number, source, and what changed, highlighted."""
    from rich.markup import escape

    indent = "  " * max(step.depth - 1, 0)
    word = "" if step.event == "line" else f"[dim]{step.event}[/dim] "
    changes = "  ".join(
        f"[bold yellow]{escape(item.name)}[/bold yellow]="
        + (escape(item.text) if item.bound else "[dim]unbound[/dim]")
        for item in step.changes.values()
    )
    value = f" [green]-> {escape(step.result_text)}[/green]" if step.has_result else ""
    return f"[dim]{step.line:>4}[/dim] {indent}{word}{escape(step.source_line.strip()):<40}{value}  {changes}"


def _step(step: "DebugStep") -> dict[str, Any]:
    return {
        "step": step.step,
        "line": step.line,
        "source_line": step.source_line,
        "event": step.event,
        "function": step.function,
        "depth": step.depth,
        "changed": {item.name: item.value for item in step.changes.values()},
        "result": step.result,
        "stdout": step.stdout,
    }


def _report(finished: "DebugFinished", *, as_json: bool) -> None:
    result, summary = finished.result, finished.summary
    if as_json:
        print_json(
            {
                "finished": result.status,
                "result": result.result,
                "error": result.error,
                "summary": summary,
                "execution_id": result.execution_id,
            }
        )
    else:
        say(f"{result.status}; {summary.step_count} steps, {summary.left_out_step_count} left out")
        for note in summary.notes:
            say(note)
        if result.error is not None:
            say(result.error.traceback or str(result.error))
        elif result.has_result:
            typer.echo(repr(result.result))
    if not result.completed:
        raise typer.Exit(FAILED)
