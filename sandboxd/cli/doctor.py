"""`sandboxd doctor`: what this machine gives, layer by layer, and what would make it better."""

import asyncio
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sandboxd.cli.output import FAILED, AsJson, explained, print_json

if TYPE_CHECKING:
    from sandboxd.settings import Settings
    from sandboxd.supervisor.probing import HostIsolation

_LOW_DISK_BYTES = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def command(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Try every layer of the isolation in a throw-away process, and look at what the server needs.

    Exit code 0: the server can start with these settings. 1: it cannot; the lines marked "fix" say why.
    """
    from sandboxd.settings import load_settings
    from sandboxd.supervisor.probing import probe_host

    with explained(as_json=as_json):
        settings = load_settings(config=config)
        isolation = probe_host(without=settings.without_layers)
        try:
            checks = [_directory(settings), _token(settings), _port(settings), _python(), _disk(settings)]
            checks.append(_history(settings))
            checks += asyncio.run(_databases(settings))
            reaches = isolation.grade.reaches(settings.floor)
            _report(settings, isolation, checks, reaches=reaches, as_json=as_json)
        finally:
            if isolation.cgroups is not None:
                isolation.cgroups.remove()
    if not (reaches and all(check.ok for check in checks)):
        raise typer.Exit(FAILED)


def _report(
    settings: "Settings",
    isolation: "HostIsolation",
    checks: Iterable[Check],
    *,
    reaches: bool,
    as_json: bool,
) -> None:
    layers = [
        Check(name=layer.name, ok=layer.available, detail=layer.detail, fix=layer.fix)
        for layer in isolation.layers
    ]
    if as_json:
        print_json(
            {
                "grade": isolation.grade.value,
                "floor": settings.floor.value,
                "reaches_floor": reaches,
                "layers": [asdict(layer) for layer in layers],
                "checks": [asdict(check) for check in checks],
            }
        )
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for title, group in (("Isolation", layers), ("Server", checks)):
        console.print(f"[bold]{title}[/bold]")
        for check in group:
            mark = "[green]ok     [/green]" if check.ok else "[red]missing[/red]"
            console.print(f"  {mark} {check.name:<18} {escape(check.detail)}", soft_wrap=True)
            if check.fix and not check.ok:
                console.print(f"          [yellow]fix[/yellow]: {escape(check.fix)}", soft_wrap=True)
    floor = settings.floor.value
    verdict = (
        f"reaches the floor {floor}" if reaches else f"is below the floor {floor}: no server would start"
    )
    console.print(f"[bold]Grade[/bold]\n  {isolation.grade.value}, which {verdict}")


def _directory(settings: "Settings") -> Check:
    path = settings.state_directory
    parent = next((found for found in (path, *path.parents) if found.exists()), Path("/"))
    ok = os.access(parent, os.W_OK | os.X_OK)
    return Check(
        name="data directory",
        ok=ok,
        detail=f"{path}" if path.exists() else f"{path}, made at the first start",
        fix=f"run: sudo install -d -m 700 -o {os.geteuid()} {path}, or set data_directory",
    )


def _token(settings: "Settings") -> Check:
    path = settings.token_path
    fix = f"run: chmod 600 {path}"
    try:
        found = path.stat()
    except FileNotFoundError:
        return Check(name="token", ok=True, detail=f"{path}, made at the first start")
    except PermissionError as error:
        return Check(name="token", ok=False, detail=str(error), fix=f"run as the owner of {path}")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        return Check(name="token", ok=False, detail=f"{path} has mode {mode:04o}", fix=fix)
    if found.st_uid != os.geteuid():
        return Check(
            name="token",
            ok=False,
            detail=f"{path} belongs to uid {found.st_uid}",
            fix=f"run as that user, or: chown {os.geteuid()} {path}",
        )
    return Check(name="token", ok=True, detail=f"{path}, mode {mode:04o}")


def _port(settings: "Settings") -> Check:
    """Whether the port is free; one that a server of ours holds is named too."""
    host = settings.host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, settings.port))
        except OSError as error:
            return Check(
                name="port",
                ok=False,
                detail=f"{settings.host}:{settings.port}: {error.strerror}",
                fix="stop what listens there (a running sandboxd?), or set another port",
            )
    return Check(name="port", ok=True, detail=f"{settings.host}:{settings.port} is free")


def _python() -> Check:
    return Check(name="python", ok=True, detail=f"{sys.version.split()[0]} at {sys.executable}")


def _disk(settings: "Settings") -> Check:
    path = settings.state_directory
    parent = next((found for found in (path, *path.parents) if found.exists()), Path("/"))
    free = shutil.disk_usage(parent).free
    return Check(
        name="disk",
        ok=free > _LOW_DISK_BYTES,
        detail=f"{free >> 20} MiB free at {parent}",
        fix=f"free some space: history and audit need {_LOW_DISK_BYTES >> 20} MiB",
    )


def _history(settings: "Settings") -> Check:
    """Databases that were set aside hinder no start, but somebody should look at them."""
    from sandboxd.store.setting_aside import set_aside_before

    directory = settings.store_settings.directory
    aside = set_aside_before(directory) if os.access(directory, os.R_OK | os.X_OK) else []
    kept = f"; set aside and not restored: {', '.join(path.name for path in aside)}" if aside else ""
    place = "a database by URL" if settings.history_url else str(directory)
    return Check(name="history", ok=True, detail=f"{place}{kept}")


async def _databases(settings: "Settings") -> list[Check]:
    """Whether each database opens, and its role is one to run an agent's SQL as."""
    from sandboxd.database.audit import MemoryAudit
    from sandboxd.database.errors import QueryError
    from sandboxd.database.gateway import DatabaseGateway

    if not settings.databases:
        return []  # the sample is built when the server starts
    named = tuple(database.named(name) for name, database in settings.databases.items())
    checks = []
    async with DatabaseGateway(named, audit=MemoryAudit(), max_workers=1) as gateway:
        for name in settings.databases:
            try:
                version, warnings = await gateway.check(name)
            except QueryError as error:
                checks.append(Check(name=f"database {name}", ok=False, detail=error.problem, fix=error.hint))
            else:
                detail = "; ".join([version, *warnings])
                checks.append(Check(name=f"database {name}", ok=True, detail=detail))
    return checks
