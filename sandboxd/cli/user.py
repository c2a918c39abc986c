"""`sandboxd user`: deletes what the server keeps of a user."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sandboxd.cli.output import AsJson, explained, give_up, print_json, say

if TYPE_CHECKING:
    from sandboxd.settings import Settings
    from sandboxd.store.retention import Deleted

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def command() -> None:
    """Delete what is kept of a user."""


@app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(help="The user_id, as callers named it; or a principal.")],
    owner: Annotated[
        str | None,
        typer.Option(help="Only what this principal made for the user; without: what anyone made."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Delete a user's executions, sandboxes and queries from the history, and revoke its tokens.

    The server must be stopped: it holds the history. With `--owner` no token is revoked.
    """
    from sandboxd.accounts.tokens import revoke_tokens_of
    from sandboxd.cli.token import drop_token_file
    from sandboxd.settings import load_settings
    from sandboxd.store.errors import StoreInUse

    with explained(as_json=as_json):
        settings = load_settings(config=config)
        if not settings.store_settings.directory.is_dir():
            give_up(
                f"no history at {settings.store_settings.directory}", as_json=as_json, reason="NO_HISTORY"
            )
        try:
            deleted = asyncio.run(_delete(settings, name, owner))
        except StoreInUse:
            problem = "the server is running and holds the history; stop it, delete, and start it again"
            give_up(problem, as_json=as_json, reason=StoreInUse.reason)
        tokens = revoke_tokens_of(settings.token_book_path, name) if owner is None else 0
        remark = drop_token_file(settings) if tokens else ""
    if as_json:
        print_json(
            {
                "user": name,
                "executions": deleted.executions,
                "sandboxes": deleted.sandboxes,
                "queries": deleted.queries,
                "tokens": tokens,
            }
        )
        return
    say(
        f"deleted of {name}: {deleted.executions} executions, {deleted.sandboxes} sandboxes, "
        f"{deleted.queries} queries, {tokens} tokens{remark}"
    )


async def _delete(settings: "Settings", name: str, owner: str | None) -> "Deleted":
    from sandboxd.store.retention import Deleted, overwrite_deleted
    from sandboxd.store.store import open_store

    async with open_store(settings.store_settings) as store:
        found = [await store.delete_user(owner=owner, user_id=name)]
        if owner is None:
            found.append(await store.delete_user(owner=name, user_id=None))
    await asyncio.to_thread(overwrite_deleted, settings.store_settings.database_url)
    return Deleted(
        executions=sum(each.executions for each in found),
        sandboxes=sum(each.sandboxes for each in found),
        queries=sum(each.queries for each in found),
    )
