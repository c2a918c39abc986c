"""`sandboxd serve`: the server in the foreground."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sandboxd.cli.output import AsJson, explained, print_json, say

if TYPE_CHECKING:
    from sandboxd.rpc.server import BoundAddresses
    from sandboxd.settings import Settings


def command(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one [50051].")] = None,
    unix_socket: Annotated[Path | None, typer.Option(help="Unix socket to listen on as well.")] = None,
    data_directory: Annotated[
        Path | None, typer.Option(help="Where history and the token are kept [/var/lib/sandboxd as root].")
    ] = None,
    minimum_grade: Annotated[
        str | None, typer.Option(help="Weakest isolation to start with: FULL, NO_CGROUP, NO_NAMESPACES.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or console.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start the server. Every setting may also come from the file or from SANDBOXD_* variables.

    SIGTERM or Ctrl-C drains: running executions may end, nothing new starts; a second one ends it at once.
    """
    from sandboxd import logs
    from sandboxd.settings import load_settings

    with explained(as_json=as_json):
        settings = load_settings(
            config=config,
            host=host,
            port=port,
            unix_socket=unix_socket,
            data_directory=data_directory,
            minimum_grade=minimum_grade,
            log_format=log_format,
            log_level=log_level,
        )
        logs.configure(style=settings.log_format, level=settings.log_level)
        _run(settings, as_json=as_json)


def _run(settings: "Settings", *, as_json: bool) -> None:
    import uvloop

    from sandboxd.early import serve

    def started(addresses: "BoundAddresses") -> None:
        facts = _facts(settings, addresses)
        if as_json:
            print_json(facts)
            return
        for name, value in facts.items():
            if value:
                say(f"{name.replace('_', ' '):>12}: {value}")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # more calls a second
        runner.run(serve(settings, started=started))


def _facts(settings: "Settings", addresses: "BoundAddresses") -> dict[str, Any]:
    return {
        "tcp": addresses.tcp,
        "unix": addresses.unix_socket,
        "metrics": addresses.metrics,
        "token_file": str(settings.token_path),
    }
