"""Brings the schema of a database to this version's, in one transaction."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from sandboxd.store.errors import StoreUnavailable

if TYPE_CHECKING:
    from alembic.config import Config

HEAD_REVISION = "0001"
"""The newest revision; a test compares it with the scripts. Known here so that a start needs no alembic."""

_VERSION_TABLE = "alembic_version"


class SchemaTooNew(Exception):
    """A later version of sandboxd has written this database."""


def upgrade(connection: Connection) -> None:
    """Apply what is missing. The caller's transaction makes it all or nothing, a kill included."""
    revision = current_revision(connection)
    if revision == HEAD_REVISION:
        return
    from alembic import command

    if revision is not None and revision not in known_revisions():
        raise SchemaTooNew(revision)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def current_revision(connection: Connection) -> str | None:
    """The revision a database stands at; None for one without tables of ours."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    revisions = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalars().all()  # noqa: S608
    if len(revisions) > 1:
        raise StoreUnavailable(problem="the store's schema stands at several revisions at once")
    return revisions[0] if revisions else None


def known_revisions() -> set[str]:
    """Every revision this version can upgrade from."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
