"""From a sandbox's grants and the settings to what holds for one query: the first layer."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sandboxd.database.errors import DatabaseNotFound
from sandboxd.database.grants import DatabaseGrant, Operation, QueryLimits, WriteGrant
from sandboxd.database.settings import DatabaseSettings
from sandboxd.sandboxes.model import DatabaseGrant as GrantedDatabase

_DEFAULT_AFFECTED_ROWS = 1000


def grant_for(
    name: str, granted: Sequence[GrantedDatabase], databases: Mapping[str, DatabaseSettings]
) -> DatabaseGrant:
    """The grant of database `name`, or of the default one; what is not granted looks missing."""
    usable = [grant for grant in granted if grant.database in databases]
    names = tuple(grant.database for grant in usable)
    if name:
        chosen = next((grant for grant in usable if grant.database == name), None)
    elif len(usable) == 1:
        chosen = usable[0]
    else:
        chosen = next((grant for grant in usable if grant.is_default), None)
    if chosen is None:
        raise DatabaseNotFound(id=name, granted=names)
    return resolved(chosen, databases[chosen.database])


def resolved(grant: GrantedDatabase, settings: DatabaseSettings) -> DatabaseGrant:
    """A grant with the settings' defaults filled in and their ceilings held."""
    writable = set(settings.writable)
    default = settings.default_limits
    asked = QueryLimits(
        max_rows=default.max_rows if grant.max_rows is None else grant.max_rows,
        max_bytes=default.max_bytes if grant.max_bytes is None else grant.max_bytes,
        timeout=default.timeout
        if grant.timeout_seconds is None
        else timedelta(seconds=grant.timeout_seconds),
    )
    ceiling = settings.maximum_limits
    return DatabaseGrant(
        database=grant.database,
        is_default=grant.is_default,
        tables=grant.tables,
        writes=tuple(
            WriteGrant(
                table=write.table,
                operation=Operation(write.operation.value.lower()),
                columns=write.columns,
            )
            for write in grant.write_grants
            if write.table in writable
        ),
        max_affected_rows=_DEFAULT_AFFECTED_ROWS
        if grant.max_affected_rows is None
        else grant.max_affected_rows,
        limits=asked.lowered(max_rows=ceiling.max_rows, max_bytes=ceiling.max_bytes, timeout=ceiling.timeout),
    )
