"""Reads the schema of a SQLite file: tables and views, without the tables SQLite keeps for itself."""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from sandboxd.database.schema import ForeignKey, Index, Reference, Table, TableColumn

_SHADOW_SUFFIXES = ("_data", "_idx", "_content", "_docsize", "_config", "_node", "_parent", "_rowid", "_stat")
_COUNTED_ROWS = 100_000
"""Rows that are counted where ANALYZE has left no estimate; more is unknown."""


class SqliteSchema(NamedTuple):
    """What the file holds; `triggers` run inside granted writes."""

    tables: dict[str, Table]
    triggers: frozenset[str]
    every_table: frozenset[str]
    """Lower-case names of all tables and views, hidden ones too."""


def read_schema(connection: sqlite3.Connection, shown: Iterable[str] | None) -> SqliteSchema:
    """The shown tables of the file; `shown` None shows all but SQLite's own."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    virtual = {name for kind, name, sql in rows if kind == "table" and _is_virtual(sql)}
    hidden = {base + suffix for base in virtual for suffix in _SHADOW_SUFFIXES}
    wanted = None if shown is None else {name.lower() for name in shown}
    estimates = _estimates(connection)
    tables: dict[str, Table] = {}
    every: set[str] = {"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"}
    for kind, name, _ in rows:
        if kind not in {"table", "view"}:
            continue
        every.add(name.lower())
        if name.lower().startswith("sqlite_") or name in hidden:
            continue
        if wanted is None or name.lower() in wanted:
            tables[name] = _read_table(connection, name, kind, estimates)
    triggers = frozenset(name for kind, name, _ in rows if kind == "trigger")
    return SqliteSchema(_with_references(tables), triggers, frozenset(every))


def _is_virtual(sql: str | None) -> bool:
    return (sql or "").lstrip().upper().startswith("CREATE VIRTUAL")


def _read_table(connection: sqlite3.Connection, name: str, kind: str, estimates: dict[str, int]) -> Table:
    quoted = '"' + name.replace('"', '""') + '"'
    columns, keys = [], []
    for _, column, db_type, not_null, default, position, is_hidden in connection.execute(
        f"PRAGMA table_xinfo({quoted})"
    ):
        if is_hidden == 1:
            continue
        columns.append(
            TableColumn(
                name=column,
                db_type=db_type,
                nullable=not not_null and not position,
                primary_key=bool(position),
                default=default,
            )
        )
        if position:
            keys.append((position, column))
    return Table(
        name=name,
        kind="view" if kind == "view" else "table",
        columns=tuple(columns),
        primary_key=tuple(column for _, column in sorted(keys)),
        foreign_keys=_foreign_keys(connection, quoted),
        indexes=_indexes(connection, quoted),
        estimated_rows=None if kind == "view" else _row_count(connection, name, quoted, estimates),
    )


def _foreign_keys(connection: sqlite3.Connection, quoted: str) -> tuple[ForeignKey, ...]:
    found: dict[int, list[tuple[str, str, str | None]]] = {}
    for number, _, target, column, target_column, *_ in connection.execute(
        f"PRAGMA foreign_key_list({quoted})"
    ):
        found.setdefault(number, []).append((target, column, target_column))
    return tuple(
        ForeignKey(
            columns=tuple(column for _, column, _ in parts),
            target_table=parts[0][0],
            target_columns=tuple(target_column for _, _, target_column in parts if target_column),
        )
        for _, parts in sorted(found.items())
    )


def _indexes(connection: sqlite3.Connection, quoted: str) -> tuple[Index, ...]:
    indexes = []
    for _, name, unique, *_ in connection.execute(f"PRAGMA index_list({quoted})").fetchall():
        escaped = '"' + name.replace('"', '""') + '"'
        columns = tuple(
            column or "(expression)" for _, _, column in connection.execute(f"PRAGMA index_info({escaped})")
        )
        indexes.append(Index(name=name, columns=columns, unique=bool(unique)))
    return tuple(sorted(indexes, key=lambda index: index.name))


def _estimates(connection: sqlite3.Connection) -> dict[str, int]:
    try:
        rows = connection.execute("SELECT tbl, max(CAST(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY tbl")
        return {str(table): int(count) for table, count in rows if count is not None}
    except sqlite3.OperationalError:
        return {}


def _row_count(
    connection: sqlite3.Connection, name: str, quoted: str, estimates: dict[str, int]
) -> int | None:
    if name in estimates:
        return estimates[name]
    try:
        (count,) = connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {quoted} LIMIT {_COUNTED_ROWS + 1})"  # noqa: S608
        ).fetchone()
    except sqlite3.DatabaseError:
        return None
    return int(count) if count <= _COUNTED_ROWS else None


def _with_references(tables: dict[str, Table]) -> dict[str, Table]:
    """Foreign keys between shown tables, both ways; those to hidden tables are left out."""
    by_folded = {name.lower(): name for name in tables}
    references: dict[str, list[Reference]] = {}
    kept: dict[str, tuple[ForeignKey, ...]] = {}
    for name, table in tables.items():
        keys = []
        for key in table.foreign_keys:
            target = by_folded.get(key.target_table.lower())
            if target is None:
                continue
            columns = key.target_columns or tables[target].primary_key
            keys.append(ForeignKey(columns=key.columns, target_table=target, target_columns=columns))
            references.setdefault(target, []).append(
                Reference(table=name, columns=key.columns, target_columns=columns)
            )
        kept[name] = tuple(keys)
    return {
        name: Table(
            name=name,
            kind=table.kind,
            columns=table.columns,
            primary_key=table.primary_key,
            foreign_keys=kept[name],
            referenced_by=tuple(references.get(name, ())),
            indexes=table.indexes,
            comment=table.comment,
            estimated_rows=table.estimated_rows,
        )
        for name, table in tables.items()
    }
