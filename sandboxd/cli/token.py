"""`sandboxd token`: where the token of this machine's server is."""

from pathlib import Path
from typing import Annotated

import typer

from sandboxd.cli.output import AsJson, explained, give_up, print_json

app = typer.Typer(rich_markup_mode=None, no_args_is_help=False, invoke_without_command=True)


@app.callback()
def command(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the token itself.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print where the token is. Clients on this machine find it there by themselves; others need it as
    SANDBOXD_TOKEN."""
    if context.invoked_subcommand is not None:
        return
    from sandboxd.settings import load_settings

    with explained(as_json=as_json):
        path = load_settings(config=config).token_path
        token = _read(path, as_json=as_json) if show else None
    if as_json:
        print_json({"token_file": str(path), "exists": path.exists()} | ({"token": token} if token else {}))
    elif token:
        typer.echo(token)
    else:
        typer.echo(str(path))
        if not path.exists():
            typer.echo("not there yet: the server makes it at its first start", err=True)


def _read(path: Path, *, as_json: bool) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        give_up(
            f"no token at {path}: the server makes it at its first start (`sandboxd serve`)",
            as_json=as_json,
            reason="NO_TOKEN",
        )
