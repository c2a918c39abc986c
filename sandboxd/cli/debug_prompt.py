"""The interactive part of `sandboxd debug`: a prompt at each stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from sandboxd_client import DebugFinished, SandboxdError

if TYPE_CHECKING:
    from sandboxd_client import DebugSession, Sandbox, Stopped
    from sandboxd_client.debug_session import Outcome

_OUT = Console(highlight=False, soft_wrap=True)
_AROUND = 3

_HELP = """\
  c             go on to the next breakpoint      n   next line        s   into a call
  o             out of this function              t N to line N        q   end the run
  p EXPRESSION  its value here                    x STATEMENT  run it in the program
  b N [if EXPR] add a breakpoint                  d N remove it        w   the stack
  back          the step before                   rev to the breakpoint before
  when NAME     when it changed                   first EXPR  the first step where it is true"""


async def converse(
    sandbox: "Sandbox", code: str, breakpoints: list[int], *, stop_at_entry: bool
) -> "DebugFinished":
    """Runs the code, asks at each stop what to do, and returns how it ended."""
    async with sandbox.debug_session(code, breakpoints=breakpoints, stop_at_entry=stop_at_entry) as session:
        prompt = _Prompt(session, breakpoints)
        outcome: Outcome = await session.wait()
        for found in session.breakpoints:
            if not found.verified or found.message:
                _OUT.print(f"[yellow]breakpoint at {found.line}: {escape(found.message)}[/yellow]")
        while not isinstance(outcome, DebugFinished):
            _show(outcome)
            outcome = await prompt.next_outcome(outcome)
        return outcome


def _show(stop: "Stopped") -> None:
    for text in (stop.stdout.text, stop.stderr.text):
        if text:
            _OUT.print(text, end="", markup=False, style="dim")
    past = " [magenta](the past)[/magenta]" if stop.in_the_past else ""
    _OUT.print(f"[bold]{stop.reason}[/bold] in {escape(stop.function)}, step {stop.step}{past}")
    if stop.exception is not None:
        _OUT.print(f"[red]{escape(str(stop.exception))}[/red]")
    for number, text in stop.source:
        if abs(number - stop.line) <= _AROUND:
            mark = "[bold green]->[/bold green]" if number == stop.line else "  "
            _OUT.print(f"  {mark} [dim]{number:>4}[/dim] {escape(text)}")
    for item in stop.changed.values():
        value = escape(item.text) if item.bound else "[dim]unbound[/dim]"
        _OUT.print(f"     [bold yellow]{escape(item.name)}[/bold yellow] = {value}")
    for line in stop.left_out:
        _OUT.print(f"     [dim]{escape(line)}[/dim]")


class _Prompt:
    """Reads commands until one of them moves the run."""

    def __init__(self, session: "DebugSession", breakpoints: list[int]) -> None:
        self._session = session
        self._breakpoints: dict[int, str] = dict.fromkeys(breakpoints, "")
        self._moves: dict[str, Callable[[], Awaitable[Outcome]]] = {
            "c": session.resume,
            "n": session.step_over,
            "s": session.step_into,
            "o": session.step_out,
            "q": session.end,
            "back": session.step_back,
            "rev": session.reverse,
        }

    async def next_outcome(self, stop: "Stopped") -> "Outcome":
        """What came of the first command that moved the run."""
        while True:
            try:
                line = await asyncio.to_thread(input, "(debug) ")
            except EOFError:
                return await self._session.end()
            word, _, rest = line.strip().partition(" ")
            try:
                if word in self._moves:
                    return await self._moves[word]()
                if word == "t":
                    return await self._session.run_to(int(rest))
                await self._look(word, rest.strip(), stop)
            except ValueError:
                _OUT.print(f"[yellow]{escape(word)} needs a number[/yellow]")
            except SandboxdError as error:
                _OUT.print(f"[yellow]{escape(str(error))}[/yellow]")

    async def _look(self, word: str, rest: str, stop: "Stopped") -> None:
        match word:
            case "":
                pass
            case "p":
                _OUT.print(escape((await self._session.evaluate(rest)).summary))
            case "x":
                found = await self._session.evaluate(rest, allow_side_effects=True)
                _OUT.print(escape(found.summary))
            case "w":
                for frame in stop.stack:
                    _OUT.print(f"  {escape(frame.function)}, line {frame.line}: {escape(frame.source_line)}")
            case "b" | "d":
                await self._change_breakpoints(word, rest)
            case "when" | "first":
                await self._look_back(word, rest)
            case _:
                if word not in ("h", "help", "?"):
                    _OUT.print(f"[yellow]no command {escape(word)}[/yellow]")
                _OUT.print(_HELP, markup=False)

    async def _change_breakpoints(self, word: str, rest: str) -> None:
        from sandboxd_client import Breakpoint

        number, _, condition = rest.partition(" ")
        if word == "b":
            self._breakpoints[int(number)] = condition.strip().removeprefix("if ").strip()
        else:
            self._breakpoints.pop(int(number), None)
        wanted = [Breakpoint(line=line, condition=text) for line, text in self._breakpoints.items()]
        for found in await self._session.set_breakpoints(wanted):
            _OUT.print(f"  breakpoint at {found.line} {escape(found.message)}")

    async def _look_back(self, word: str, rest: str) -> None:
        if word == "when":
            found = await self._session.trace.when_changed(rest)
            for change in found.changes:
                _OUT.print(f"  step {change.step}, line {change.line}: {escape(change.text)}")
            if not found.changes:
                _OUT.print("  never, so far")
            return
        step = (await self._session.trace.first_where(rest)).step
        _OUT.print("  never, so far" if step is None else f"  step {step.step}, line {step.line}")
