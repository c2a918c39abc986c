"""Reads what a sandbox is to be made with: limits, language rules, grants, checkpoints.

Every function here raises `InvalidArgument`, and `Denied` for a grant that nobody may have.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from sandboxd_api.v1 import checkpoint_pb2, sandbox_pb2

from sandboxd.errors import Denied, InvalidArgument
from sandboxd.limits import MIB, Limits
from sandboxd.policy import BLOCKED_BUILTINS, LanguagePolicy
from sandboxd.rpc.requests import duration, in_range, known_enum, shown
from sandboxd.sandboxes.model import (
    CheckpointMode,
    CheckpointPolicy,
    DatabaseGrant,
    SandboxSpec,
    WriteGrant,
    WriteOperation,
)

_MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_MAX_MODULES = 500
_MAX_GRANTS = 32
_MAX_TABLES = 1000
_MAX_HISTORY = 64
_DURATIONS = ("execution_timeout", "idle_timeout")
_SMALLEST = {"open_files": 16, "threads": 0, "workspace_inodes": 16, "memory_bytes": 16 * MIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a request that says nothing gets, and the most it may ask for."""

    limits: Limits
    maximum: Limits
    allowed_modules: tuple[str, ...]
    databases: frozenset[str] = frozenset()
    """Names of the configured databases."""
    default_database: str = ""
    """The one a sandbox is granted that asks for none; empty grants none."""
    writable: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """For each database, the tables that writes may be granted to."""


def limits(message: sandbox_pb2.Limits, defaults: Defaults, field: str = "spec.limits") -> Limits:
    """Limits where given, else the defaults; above the ceiling is refused, never lowered in silence."""
    values: dict[str, Any] = {}
    for item in fields(Limits):
        name = item.name
        if not message.HasField(name):  # type: ignore[arg-type]  # every name is a field of the message
            values[name] = getattr(defaults.limits, name)
            continue
        most = getattr(defaults.maximum, name)
        given = getattr(message, name)
        if name in _DURATIONS:
            values[name] = duration(given, f"{field}.{name}", most=most)
        else:
            values[name] = in_range(given, f"{field}.{name}", least=_SMALLEST.get(name, 1), most=most)
    return Limits(**values)


def language_policy(message: sandbox_pb2.LanguagePolicy, defaults: Defaults) -> LanguagePolicy:
    """The language rules of a sandbox."""
    field = "spec.language_policy"
    mode = known_enum(message.mode, sandbox_pb2.LanguagePolicy.Mode, f"{field}.mode")
    if message.allowed_modules and message.extra_allowed_modules:
        raise InvalidArgument(
            field=f"{field}.extra_allowed_modules",
            problem="adds to the server's list, and allowed_modules replaces it: give one of them",
        )
    allowed = _modules(message.allowed_modules, f"{field}.allowed_modules") or defaults.allowed_modules
    extra = _modules(message.extra_allowed_modules, f"{field}.extra_allowed_modules")
    for name in message.blocked_builtins:
        if not name.isidentifier():
            raise InvalidArgument(
                field=f"{field}.blocked_builtins",
                problem=f"{shown(name)} is not a name of a builtin",
            )
    return LanguagePolicy(
        restricted=mode != sandbox_pb2.LanguagePolicy.MODE_UNRESTRICTED,
        allowed_modules=(*allowed, *extra),
        blocked_builtins=tuple(message.blocked_builtins) or tuple(BLOCKED_BUILTINS),
    )


def _modules(names: Iterable[str], field: str) -> tuple[str, ...]:
    listed = tuple(names)
    if len(listed) > _MAX_MODULES:
        raise InvalidArgument(field=field, problem=f"has {len(listed)} names; at most {_MAX_MODULES}")
    for name in listed:
        if not _MODULE_NAME.fullmatch(name):
            raise InvalidArgument(
                field=field,
                problem=f"{shown(name)} is not a module name such as json or urllib.parse",
            )
    return listed


def spec(message: sandbox_pb2.SandboxSpec, defaults: Defaults) -> SandboxSpec:
    """What a sandbox is made with."""
    return SandboxSpec(
        limits=limits(message.limits, defaults),
        policy=language_policy(message.language_policy, defaults),
        enable_debugging=message.enable_debugging,
        database_grants=_grants(message.database_grants, defaults),
        checkpoints=_checkpoint_policy(message.checkpoint_policy),
    )


def _grants(messages: Iterable[sandbox_pb2.DatabaseGrant], defaults: Defaults) -> tuple[DatabaseGrant, ...]:
    grants = tuple(_grant(message, number, defaults) for number, message in enumerate(messages))
    if len(grants) > _MAX_GRANTS:
        raise InvalidArgument(field="spec.database_grants", problem=f"has more than {_MAX_GRANTS} entries")
    names = [grant.database for grant in grants]
    if len(set(names)) < len(names):
        raise InvalidArgument(field="spec.database_grants", problem="names a database twice")
    if sum(grant.is_default for grant in grants) > 1:
        raise InvalidArgument(field="spec.database_grants", problem="has more than one default")
    if not grants and defaults.default_database:
        return (DatabaseGrant(database=defaults.default_database, is_default=True),)
    return grants


def _grant(message: sandbox_pb2.DatabaseGrant, number: int, defaults: Defaults) -> DatabaseGrant:
    field = f"spec.database_grants[{number}]"
    if message.database not in defaults.databases:
        known = ", ".join(sorted(defaults.databases)) or "none is configured"
        raise InvalidArgument(
            field=f"{field}.database",
            problem=f"{shown(message.database)} is not configured; known: {known}",
        )
    if len(message.tables) > _MAX_TABLES or len(message.write_grants) > _MAX_TABLES:
        raise InvalidArgument(field=f"{field}.tables", problem=f"has more than {_MAX_TABLES} entries")
    writes = tuple(
        _write_grant(
            write, f"{field}.write_grants[{index}]", defaults.writable.get(message.database, frozenset())
        )
        for index, write in enumerate(message.write_grants)
    )
    bounds = message.query_limits
    return DatabaseGrant(
        database=message.database,
        is_default=message.is_default,
        tables=tuple(message.tables),
        write_grants=writes,
        max_affected_rows=_optional(message, "max_affected_rows", f"{field}.max_affected_rows"),
        max_rows=_optional(bounds, "max_rows", f"{field}.query_limits.max_rows"),
        max_bytes=_optional(bounds, "max_bytes", f"{field}.query_limits.max_bytes"),
        timeout_seconds=duration(
            bounds.timeout, f"{field}.query_limits.timeout", most=timedelta(seconds=60)
        ).total_seconds()
        if bounds.HasField("timeout")
        else None,
    )


def _optional(message: Any, name: str, field: str) -> int | None:
    if not message.HasField(name):
        return None
    value = int(getattr(message, name))
    return in_range(value, field, least=1, most=2**53)


def _write_grant(message: sandbox_pb2.WriteGrant, field: str, writable: frozenset[str]) -> WriteGrant:
    operation = known_enum(message.operation, sandbox_pb2.WriteGrant.Operation, f"{field}.operation")
    name = sandbox_pb2.WriteGrant.Operation.Name(operation).removeprefix("OPERATION_")
    if name == "UNSPECIFIED":
        raise InvalidArgument(field=f"{field}.operation", problem="is required: INSERT, UPDATE or DELETE")
    if not message.table:
        raise InvalidArgument(field=f"{field}.table", problem="is required")
    if message.table not in writable:
        known = ", ".join(sorted(writable)) or "none"
        problem = (
            f"{field}.table: writes to {shown(message.table)} can't be granted; tables that can: {known}"
        )
        raise Denied(problem=problem)
    if bool(message.columns) == (name == "DELETE"):
        problem = "must be empty for DELETE" if name == "DELETE" else f"is required for {name}"
        raise InvalidArgument(field=f"{field}.columns", problem=problem)
    return WriteGrant(table=message.table, operation=WriteOperation(name), columns=tuple(message.columns))


def _checkpoint_policy(message: checkpoint_pb2.CheckpointPolicy) -> CheckpointPolicy:
    field = "spec.checkpoint_policy"
    mode = known_enum(message.mode, checkpoint_pb2.CheckpointPolicy.Mode, f"{field}.mode")
    count = CheckpointPolicy().history_count
    if message.HasField("history_count"):
        count = in_range(message.history_count, f"{field}.history_count", least=0, most=_MAX_HISTORY)
    disabled = mode == checkpoint_pb2.CheckpointPolicy.MODE_DISABLED
    return CheckpointPolicy(
        mode=CheckpointMode.DISABLED if disabled else CheckpointMode.AUTOMATIC,
        history_count=count,
        memory_bytes=_optional(message, "memory_bytes", f"{field}.memory_bytes"),
    )
