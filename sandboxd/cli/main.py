"""The command line: one file a command; what a command needs is imported when it runs."""

from importlib.metadata import version
from typing import Annotated

import typer

from sandboxd.cli import debug, doctor, execute, serve, token, top, user

app = typer.Typer(
    rich_markup_mode=None,
    name="sandboxd",
    help="Run untrusted Python in sessions that cannot be broken.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve", help="Start the server.")(serve.command)
app.command("doctor", help="Say how strongly this machine can isolate, and how to do better.")(doctor.command)
app.command("exec", help="Run a Python file, or standard input, in a sandbox.")(execute.command)
app.command("debug", help="Run a Python file line by line: each step, or interactively.")(debug.command)
app.command("top", help="Show what a server holds and does, live.")(top.command)
app.add_typer(token.app, name="token", help="Where the token is; make, list and revoke tokens.")
app.add_typer(user.app, name="user", help="Delete what is kept of a user.")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sandboxd {version('sandboxd')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Run untrusted Python in sessions that cannot be broken."""


def main() -> None:
    """Runs the command line."""
    app()


__all__ = ["app", "main"]
