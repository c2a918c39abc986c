"""`sandboxd token`: where this machine's token is; tokens for others, made, listed and revoked."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sandboxd.cli.output import AsJson, explained, give_up, print_json, say

if TYPE_CHECKING:
    from sandboxd.accounts.tokens import TokenRecord
    from sandboxd.settings import Settings

Config = Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)]

app = typer.Typer(rich_markup_mode=None, no_args_is_help=False, invoke_without_command=True)


@app.callback()
def command(
    context: typer.Context,
    config: Config = None,
    show: Annotated[bool, typer.Option("--show", help="Print the token itself.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print where the token is. Clients on this machine find it there by themselves; others need it as
    SANDBOXD_TOKEN."""
    if context.invoked_subcommand is not None:
        return
    with explained(as_json=as_json):
        path = _settings(config).token_path
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


@app.command("create")
def create(
    principal: Annotated[str, typer.Argument(help="Who calls with it: letters, digits and ._@:/-")],
    role: Annotated[
        Literal["admin", "service", "user"],
        typer.Option(help="user: acts for itself; service: for any user; admin: sees everyone's."),
    ] = "user",
    days: Annotated[float | None, typer.Option(help="Days until it expires; without: never.")] = None,
    label: Annotated[str, typer.Option(help="A note for the list.")] = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, once: only its hash is kept. A running server takes it at once."""
    from sandboxd.accounts.principals import Role
    from sandboxd.accounts.tokens import create_token

    with explained(as_json=as_json):
        text, record = create_token(
            _settings(config).token_book_path,
            principal=principal,
            role=Role(role),
            lifetime=None if days is None else timedelta(days=days),
            label=label,
        )
    if as_json:
        print_json({"token": text} | _facts(record))
        return
    typer.echo(text)
    say(f"id {record.id}, for {principal} as {role}; this is the only time it is shown")


@app.command("list")
def list_all(config: Config = None, as_json: AsJson = False) -> None:
    """List the tokens: who they are for and when they expire. The tokens themselves are not kept."""
    from sandboxd.accounts.tokens import list_tokens

    with explained(as_json=as_json):
        records = list_tokens(_settings(config).token_book_path)
    if as_json:
        print_json([_facts(record) for record in records])
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("id", "principal", "role", "made", "expires", "label", box=None)
    for record in records:
        facts = _facts(record)
        expires = "expired" if facts["expired"] else _day(record.expire_time)
        table.add_row(
            record.id,
            record.principal,
            str(record.role),
            _day(record.create_time),
            expires,
            escape(record.label),
        )
    Console(highlight=False).print(table)


@app.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(help="Its id, as `list` shows it.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token: calls with it are refused from the next one on."""
    from sandboxd.accounts.tokens import revoke_token

    with explained(as_json=as_json):
        settings = _settings(config)
        if not revoke_token(settings.token_book_path, token_id):
            give_up(
                f"no token {token_id}; `sandboxd token list` shows them", as_json=as_json, reason="NO_TOKEN"
            )
        remark = drop_token_file(settings)
    if as_json:
        print_json({"revoked": token_id})
    else:
        say(f"revoked {token_id}{remark}")


def drop_token_file(settings: "Settings") -> str:
    """After tokens were revoked: what became of the token file, if it held one of them."""
    from sandboxd.accounts.tokens import forget_revoked_file

    path = settings.token_path
    try:
        dropped = forget_revoked_file(settings.token_book_path, path)
    except OSError as error:
        return (
            f"; but {path} holds it and cannot be removed ({error.strerror}): the next start takes it again"
        )
    return f"; {path} held it and was removed, the next start makes another" if dropped else ""


def _settings(config: Path | None) -> "Settings":
    from sandboxd.settings import load_settings

    return load_settings(config=config)


def _facts(record: "TokenRecord") -> dict[str, Any]:
    return {
        "id": record.id,
        "principal": record.principal,
        "role": str(record.role),
        "created_at": record.create_time,
        "expires_at": record.expire_time,
        "expired": record.expired(datetime.now(UTC)),
        "label": record.label,
    }


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else moment.strftime("%Y-%m-%d %H:%M")
