"""Reads PostgreSQL's catalogue in a few queries: what the role may read, and which functions only compute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from asyncpg import Connection

from sandboxd.database.schema import ForeignKey, Index, Reference, Table, TableColumn
from sandboxd.database.worker.allowed import CatalogFunction

_RELATIONS = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind IN ('v', 'm') AS is_view,
       CASE WHEN c.reltuples < 0 THEN NULL ELSE c.reltuples::bigint END AS estimate,
       coalesce(obj_description(c.oid, 'pg_class'), '') AS comment
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND has_schema_privilege(n.oid, 'USAGE')
  AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))
ORDER BY array_position($1, n.nspname::text), c.relname
"""
_COLUMNS = """
SELECT a.attrelid AS relation, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS db_type,
       NOT a.attnotnull AS nullable, pg_get_expr(d.adbin, d.adrelid) AS default_text,
       coalesce(e.description, '') AS comment
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = ''
LEFT JOIN pg_catalog.pg_description e
  ON e.objoid = a.attrelid AND e.objsubid = a.attnum AND e.classoid = 'pg_catalog.pg_class'::regclass
WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
  AND (has_table_privilege(a.attrelid, 'SELECT') OR has_column_privilege(a.attrelid, a.attnum, 'SELECT'))
ORDER BY a.attrelid, a.attnum
"""
_KEYS = """
SELECT o.conrelid AS relation, o.contype = 'p' AS is_primary, o.confrelid AS target,
       ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY k(number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.number
             ORDER BY k.place) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY k(number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.number
             ORDER BY k.place) AS target_columns
FROM pg_catalog.pg_constraint o WHERE o.conrelid = ANY($1) AND o.contype IN ('p', 'f') ORDER BY o.conname
"""
_INDEXES = """
SELECT i.indrelid AS relation, c.relname AS name, i.indisunique AS is_unique,
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, place, true)
             FROM generate_series(1, i.indnkeyatts) place ORDER BY place) AS columns
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY($1) AND i.indisvalid ORDER BY c.relname
"""
_FUNCTIONS = """
SELECT p.proname AS name, bool_and(p.pronamespace = 'pg_catalog'::regnamespace) AS builtin,
       bool_or(p.provolatile = 'v' OR p.prosecdef) AS volatile
FROM pg_catalog.pg_proc p GROUP BY p.proname
"""
_ROW_TYPES = """
SELECT t.typname::text FROM pg_catalog.pg_type t
WHERE t.typtype = 'c' OR EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typtype = 'c')
"""


async def read_row_types(connection: Connection[Any]) -> frozenset[str]:
    """Names of the types that tables are, and of arrays of them, over all schemas."""
    return frozenset([row[0] for row in await connection.fetch(_ROW_TYPES)])


async def read_functions(connection: Connection[Any]) -> list[CatalogFunction]:
    """Every function name of the server, over all schemas and overloads."""
    rows = await connection.fetch(_FUNCTIONS)
    return [CatalogFunction(row["name"], row["builtin"], row["volatile"]) for row in rows]


async def read_tables(
    connection: Connection[Any], schemas: Sequence[str], shown: Sequence[str] | None
) -> dict[str, Table]:
    """The tables and views that the role may read, by the name callers use."""
    names: dict[int, str] = {}
    relations: dict[str, Any] = {}
    for row in await connection.fetch(_RELATIONS, list(schemas)):
        name = row["name"] if row["schema"] == schemas[0] else f"{row['schema']}.{row['name']}"
        if shown is None or name in shown:
            names[row["oid"]] = name
            relations[name] = row
    oids = list(names)
    columns = _grouped(names, await connection.fetch(_COLUMNS, oids))
    keys = _grouped(names, await connection.fetch(_KEYS, oids))
    indexes = _grouped(names, await connection.fetch(_INDEXES, oids))
    references = _references(names, keys)
    return {
        name: _table(name, row, columns[name], keys[name], indexes[name], references[name], names)
        for name, row in relations.items()
    }


def _grouped(names: dict[int, str], rows: Sequence[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[names[row["relation"]]].append(row)
    return grouped


def _references(names: dict[int, str], keys: dict[str, list[Any]]) -> dict[str, list[Reference]]:
    references: dict[str, list[Reference]] = defaultdict(list)
    for name, rows in list(keys.items()):
        for row in rows:
            if not row["is_primary"] and row["target"] in names:
                references[names[row["target"]]].append(
                    Reference(
                        table=name,
                        columns=tuple(row["columns"]),
                        target_columns=tuple(row["target_columns"]),
                    )
                )
    return references


def _table(  # the rows of one relation, kind by kind
    name: str,
    relation: Any,
    columns: list[Any],
    keys: list[Any],
    indexes: list[Any],
    references: list[Reference],
    names: dict[int, str],
) -> Table:
    visible = {row["name"] for row in columns}
    primary = next((tuple(row["columns"]) for row in keys if row["is_primary"]), ())
    return Table(
        name=name,
        kind="view" if relation["is_view"] else "table",
        columns=tuple(
            TableColumn(
                name=row["name"],
                db_type=row["db_type"],
                nullable=row["nullable"],
                primary_key=row["name"] in primary,
                default=row["default_text"],
                comment=row["comment"],
            )
            for row in columns
        ),
        primary_key=primary if visible.issuperset(primary) else (),
        foreign_keys=tuple(
            ForeignKey(
                columns=tuple(row["columns"]),
                target_table=names[row["target"]],
                target_columns=tuple(row["target_columns"]),
            )
            for row in keys
            if not row["is_primary"] and row["target"] in names and visible.issuperset(row["columns"])
        ),
        referenced_by=tuple(references),
        indexes=tuple(
            Index(name=row["name"], columns=tuple(row["columns"]), unique=row["is_unique"]) for row in indexes
        ),
        comment=relation["comment"],
        estimated_rows=relation["estimate"],
    )
