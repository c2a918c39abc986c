"""`sandboxd top`: what a server holds and does, live in a terminal or once as JSON."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sandboxd.cli.output import AsJson, explained, print_json

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table
    from sandboxd_client import Client
    from sandboxd_client.info import Capabilities, SandboxInfo, Statistics

_SHOWN_ID = 12
_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a server says at one moment."""

    address: str
    time: datetime
    statistics: "Statistics"
    sandboxes: "list[SandboxInfo]"
    capabilities: "Capabilities"


def command(
    address: Annotated[
        str | None, typer.Option(help="Server, host:port or unix:/path [SANDBOXD_ADDRESS, else local].")
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 1.0,
    rows: Annotated[int, typer.Option(min=1, max=500, help="Sandboxes shown at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show sandboxes, executions, ready guests and limits that ended executions. Ctrl-C ends it.

    With a token of an admin these are everyone's, else those of the token's principal. Times and limits
    are those of the last hour. With --json one look is printed and the command ends.
    """
    with explained(as_json=as_json):
        asyncio.run(_show(address, every=every, rows=rows, as_json=as_json))


async def _show(address: str | None, *, every: float, rows: int, as_json: bool) -> None:
    from sandboxd_client import Client

    async with Client.connect(address) as client:
        look = await _look(client, rows=rows)
        if as_json:
            print_json(_facts(look))
            return
        await _follow(client, look, every=every, rows=rows)


async def _follow(client: "Client", look: Look, *, every: float, rows: int) -> None:
    """Redraws until it is interrupted; a server that is away is shown as such until it is back."""
    from rich.console import Console
    from rich.live import Live
    from sandboxd_client import Unavailable

    console = Console()
    if not console.is_terminal:
        console.print(_screen(look))
        return
    with Live(_screen(look), console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                await asyncio.sleep(every)
                look = await _look(client, rows=rows, seen=look)
                live.update(_screen(look), refresh=True)
            except Unavailable as error:
                live.update(_screen(look, problem=str(error)), refresh=True)
            except (KeyboardInterrupt, asyncio.CancelledError):
                return


async def _look(client: "Client", *, rows: int, seen: Look | None = None) -> Look:
    """What the server says now; what can't change is not asked again."""
    return Look(
        address=client.address,
        time=datetime.now(UTC),
        statistics=await _statistics(client),
        sandboxes=await client.list_sandboxes(limit=rows),
        capabilities=seen.capabilities if seen else await client.capabilities(),
    )


async def _statistics(client: "Client") -> "Statistics":
    from sandboxd_client import Denied, Unauthenticated

    try:
        return await client.statistics(all_users=True, window=_WINDOW)
    except Unauthenticated:
        raise
    except Denied:  # a token of the role user: its own figures
        return await client.statistics(window=_WINDOW)


def _facts(look: Look) -> dict[str, Any]:
    figures = look.statistics
    return {
        "address": look.address,
        "time": look.time,
        "isolation_grade": look.capabilities.isolation_grade,
        "versions": look.capabilities.versions,
        "active_sandboxes": figures.active_sandbox_count,
        "running_executions": figures.running_execution_count,
        "queued_executions": figures.queued_execution_count,
        "ready_guests": figures.ready_guest_count,
        "finished_executions": figures.finished_execution_count,
        "success_percent": figures.success_percent,
        "executions_by_status": figures.status_counts,
        "limits_hit": figures.limit_counts,
        "phases": figures.phase_times,
        "queries": figures.query_count,
        "sandboxes": [
            {
                "id": sandbox.id,
                "user_id": sandbox.user_id,
                "running_execution_id": sandbox.running_execution_id,
                "queued_executions": sandbox.queued_execution_count,
                "executions": sandbox.execution_count,
                "created_at": sandbox.create_time,
                "expires_at": sandbox.expire_time,
            }
            for sandbox in look.sandboxes
        ],
    }


# --- the screen ----------------------------------------------------------------------------------


def _screen(look: Look, *, problem: str = "") -> "Group":
    from rich.console import Group
    from rich.text import Text

    figures = look.statistics
    found = look.capabilities
    version = found.versions.get("sandboxd", "")
    parts: list[RenderableType] = [
        Text(f"sandboxd {version}  {look.address}  {found.isolation_grade}  {look.time:%H:%M:%S} UTC"),
        Text(
            f"sandboxes {figures.active_sandbox_count}   running {figures.running_execution_count}   "
            f"queued {figures.queued_execution_count}   ready guests {figures.ready_guest_count}   "
            f"last hour: {figures.finished_execution_count} executions, "
            f"{figures.success_percent:.1f} % succeeded, {figures.query_count} queries"
        ),
        _counts("ended as", figures.status_counts),
        _counts("limits hit", figures.limit_counts),
    ]
    if problem:
        parts.append(Text(f"no answer: {problem}", style="bold red"))
    return Group(*parts, Text(), _phases(look), Text(), _sandboxes(look))


def _counts(title: str, counts: Any) -> "RenderableType":
    from rich.text import Text

    words = "   ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
    return Text(f"{title}: {words}")


def _phases(look: Look) -> "Table":
    from rich.table import Table

    table = Table("phase", "p50", "p90", "p99", "max", box=None)
    for phase, times in look.statistics.phase_times.items():
        spans = (times.p50, times.p90, times.p99, times.maximum)
        table.add_row(phase, *(f"{span.total_seconds() * 1000:.1f} ms" for span in spans))
    return table


def _sandboxes(look: Look) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("sandbox", "user", "now", "waiting", "executions", "idle", box=None)
    for sandbox in look.sandboxes:
        table.add_row(
            sandbox.id[:_SHOWN_ID],
            Text(_harmless(sandbox.user_id)[:32]),
            "running" if sandbox.running_execution_id else "-",
            str(sandbox.queued_execution_count),
            str(sandbox.execution_count),
            _since(sandbox.last_use_time, look.time),
        )
    return table


def _since(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    return str(timedelta(seconds=max(0, round((now - moment).total_seconds()))))


def _harmless(text: str) -> str:
    """A user id is whatever a caller chose: no escapes for this terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
