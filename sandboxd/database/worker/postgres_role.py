"""Says whether a PostgreSQL role is one to run an agent's SQL as, and what hardening would still improve."""

from __future__ import annotations

from typing import Any

from asyncpg import Connection

from sandboxd.database.worker.refusal import Layer, Reason, Refusal

_ROLE = """
SELECT r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls,
       has_database_privilege(current_database(), 'CREATE') AS creates_schemas,
       has_database_privilege(current_database(), 'TEMP') AS creates_temporary_tables,
       EXISTS (SELECT FROM pg_catalog.pg_namespace n
               WHERE n.nspname = ANY($1) AND has_schema_privilege(n.oid, 'CREATE')) AS creates_tables,
       ARRAY(SELECT m.rolname::text FROM pg_catalog.pg_roles m
             WHERE m.rolname = ANY($2) AND pg_has_role(current_user, m.oid, 'MEMBER')) AS memberships,
       ARRAY(SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p
             WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY($3)
               AND has_function_privilege(p.oid, 'EXECUTE')) AS functions
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""
_DANGEROUS_ROLES = (
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_execute_server_program",
    "pg_write_all_data",
    "pg_signal_backend",
    "pg_checkpoint",
    "pg_create_subscription",
    "pg_maintain",
)
_HARDENED_FUNCTIONS = (
    "pg_sleep", "pg_terminate_backend", "pg_cancel_backend", "pg_advisory_lock", "pg_notify", "lo_create",
    "lo_from_bytea", "pg_export_snapshot", "pg_logical_emit_message", "database_to_xml", "query_to_xml",
)  # fmt: skip


async def check_role(
    connection: Connection[Any], schemas: list[str], *, allow_unsafe: bool = False
) -> list[str]:
    """Warnings about the connection's role; refuses one that could leave the database or rewrite it."""
    row = await connection.fetchrow(_ROLE, schemas, list(_DANGEROUS_ROLES), list(_HARDENED_FUNCTIONS))
    assert row is not None
    attributes = {
        "rolsuper": "SUPERUSER",
        "rolcreaterole": "CREATEROLE",
        "rolcreatedb": "CREATEDB",
        "rolreplication": "REPLICATION",
        "rolbypassrls": "BYPASSRLS",
    }
    found = [name for field, name in attributes.items() if row[field]] + list(row["memberships"])
    if found and not allow_unsafe:
        problem = f"the role of this database is not fit for an agent's SQL: it has {', '.join(found)}"
        hint = "create a role with harden_postgres.sql and use it in the URL"
        raise Refusal(Reason.UNSAFE_ROLE, Layer.ENGINE, problem, hint=hint)
    warnings = []
    if row["creates_schemas"] or row["creates_tables"] or row["creates_temporary_tables"]:
        warnings.append("the role may create schemas, tables or temporary tables")
    if row["functions"]:
        callable_names = sorted({name.split("(")[0] for name in row["functions"]})
        warnings.append(f"the role may call {', '.join(callable_names)}")
    return warnings
