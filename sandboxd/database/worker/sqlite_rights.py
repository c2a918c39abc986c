"""The default-deny authorizer of SQLite: the boundary there, set anew for every execution.

`mode=ro` alone is none: VACUUM INTO and ATTACH write files under it.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandboxd.database.grants import Operation
from sandboxd.database.worker.write_guard import WriteUse


@dataclass(slots=True, kw_only=True)
class Authorizer:
    """Answers SQLite's questions while it compiles one statement; keeps the first thing it denied."""

    readable: frozenset[str]
    """Lower-case names of the tables and views the sandbox may read."""
    every_table: frozenset[str]
    """Lower-case names of all real tables: what is none of them is a CTE or subquery."""
    behind_views: Mapping[str, frozenset[str]]
    """For each view, the tables it reads; they may be read through it alone."""
    functions: frozenset[str]
    triggers: frozenset[str] = frozenset()
    write: WriteUse | None = None
    denied: str = field(default="", init=False)

    def __call__(
        self, action: int, first: str | None, second: str | None, schema: str | None, inside: str | None
    ) -> int:
        if self._allows(action, first, second, schema, inside):
            return sqlite3.SQLITE_OK
        if not self.denied:
            self.denied = f"{_NAMES.get(action, str(action))} {first or ''} {second or ''}".strip()
        return sqlite3.SQLITE_DENY

    def _allows(
        self, action: int, first: str | None, second: str | None, schema: str | None, inside: str | None
    ) -> bool:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return True
        if action == sqlite3.SQLITE_READ:
            return self._may_read((first or "").lower(), schema, inside)
        if action == sqlite3.SQLITE_FUNCTION:
            return (second or "").lower() in self.functions
        if action in _WRITES:
            return self._may_write(_WRITES[action], first or "", second, inside)
        return False

    def _may_read(self, table: str, schema: str | None, inside: str | None) -> bool:
        if schema not in (None, "", "main"):
            return False
        if table not in self.every_table:
            return not table.startswith(("sqlite_", "pragma_"))
        if table in self.readable:
            return True
        if inside is None:
            return False
        return table in self.behind_views.get(inside.lower(), ()) or inside in self.triggers

    def _may_write(self, operation: Operation, table: str, column: str | None, inside: str | None) -> bool:
        if self.write is None or table.lower().startswith("sqlite_"):
            return False
        if inside is not None and inside in self.triggers:
            return True
        if table.lower() != self.write.table.lower() or operation not in self.write.operations:
            return False
        return operation is not Operation.UPDATE or (column or "").lower() in self.write.columns


_WRITES = {
    sqlite3.SQLITE_INSERT: Operation.INSERT,
    sqlite3.SQLITE_UPDATE: Operation.UPDATE,
    sqlite3.SQLITE_DELETE: Operation.DELETE,
}
_NAMES = {
    getattr(sqlite3, f"SQLITE_{name}"): name.replace("_", " ")
    for name in (
        "ATTACH", "DETACH", "PRAGMA", "READ", "FUNCTION", "INSERT", "UPDATE", "DELETE", "CREATE_TABLE",
        "CREATE_INDEX", "CREATE_VIEW", "CREATE_TRIGGER", "CREATE_TEMP_TABLE", "CREATE_VTABLE", "DROP_TABLE",
        "TRANSACTION", "SAVEPOINT", "ANALYZE", "REINDEX", "ALTER_TABLE",
    )
}  # fmt: skip


def tables_behind(connection: sqlite3.Connection, views: list[str]) -> dict[str, frozenset[str]]:
    """Which tables each view reads, as SQLite itself says when it compiles a query of the view."""
    behind: dict[str, frozenset[str]] = {}
    for view in views:
        seen: set[str] = set()
        connection.set_authorizer(_recorder(seen))
        quoted = '"' + view.replace('"', '""') + '"'
        try:
            connection.execute(f"EXPLAIN SELECT * FROM {quoted}").close()  # noqa: S608
        except sqlite3.DatabaseError:
            seen.clear()
        behind[view.lower()] = frozenset(seen)
    connection.set_authorizer(None)
    return behind


def _recorder(seen: set[str]) -> Callable[..., int]:
    def record(action: int, first: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and first:
            seen.add(first.lower())
        return sqlite3.SQLITE_OK

    return record
