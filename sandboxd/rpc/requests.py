"""Reads requests once, at the edge: what comes out is valid, what is not is refused by field.

Every function here raises only `InvalidArgument`; nothing below checks again.
"""

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from google.protobuf import duration_pb2
from sandboxd_api.v1 import checkpoint_pb2, execution_pb2, sandbox_pb2

from sandboxd.channel.debug import DebugSettings
from sandboxd.channel.messages import Input
from sandboxd.errors import Denied, InvalidArgument
from sandboxd.executions.model import ExecutionKind, ExecutionRequest, WhenBusy
from sandboxd.limits import MIB, Limits
from sandboxd.policy import BLOCKED_BUILTINS, LanguagePolicy
from sandboxd.sandboxes.model import (
    CheckpointMode,
    CheckpointPolicy,
    DatabaseGrant,
    SandboxSpec,
    WriteGrant,
    WriteOperation,
)

_MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_MAX_USER_ID_LENGTH = 128
_MAX_MODULES = 500
_MAX_INPUTS = 32
_MAX_INPUT_BYTES = 1 * MIB
_MAX_GRANTS = 32
_MAX_TABLES = 1000
_MAX_HISTORY = 64
_MAX_ID_LENGTH = 64
_MIN_TIMEOUT = timedelta(milliseconds=1)
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


def identifier(value: str, field: str) -> str:
    """An id that the server made; whether it exists is another question."""
    if not value:
        raise InvalidArgument(field=field, problem="is required")
    if len(value) > _MAX_ID_LENGTH:
        raise InvalidArgument(field=field, problem=f"is longer than {_MAX_ID_LENGTH} characters: not an id")
    return value


def request_id(value: str) -> str:
    """Empty, or a UUID in its canonical form."""
    if not value:
        return ""
    try:
        canonical = str(uuid.UUID(value))
    except ValueError:
        canonical = ""
    if canonical != value.lower():
        raise InvalidArgument(
            field="request_id",
            problem=f"must be a UUID such as 123e4567-e89b-42d3-a456-426614174000, not {_shown(value)}",
        )
    return canonical


def user_id(value: str) -> str:
    """Empty, or a name of at most 128 printable characters."""
    if len(value) > _MAX_USER_ID_LENGTH or not value.isprintable():
        raise InvalidArgument(
            field="user_id", problem=f"must be at most {_MAX_USER_ID_LENGTH} printable characters"
        )
    return value


def page_size(value: int, *, default: int, most: int) -> int:
    """A page size; 0 is the default, more than the most is refused."""
    if not 0 <= value <= most:
        raise InvalidArgument(
            field="page_size", problem=f"must be from 1 to {most}, or 0 for {default}; not {value}"
        )
    return value or default


def duration(message: duration_pb2.Duration, field: str, *, most: timedelta) -> timedelta:
    """A positive length of time, at most `most`."""
    valid = abs(message.seconds) <= 10**9 and 0 <= message.nanos < 10**9
    value = timedelta(seconds=message.seconds, microseconds=message.nanos / 1000) if valid else timedelta(0)
    if not _MIN_TIMEOUT <= value <= most:
        raise InvalidArgument(
            field=field,
            problem=f"must be from 0.001 s to {most.total_seconds():g} s; "
            f"{message.seconds + message.nanos / 1e9:g} s was sent",
        )
    return value


def source(code: str, limits: Limits, field: str = "code") -> str:
    """Source text that is there and fits."""
    if not code.strip():
        raise InvalidArgument(field=field, problem="is required: Python source text")
    size = len(code.encode())
    if size > limits.source_bytes:
        raise InvalidArgument(
            field=field, problem=f"has {size} bytes of UTF-8; at most {limits.source_bytes} are allowed"
        )
    return code


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
            values[name] = _in_range(given, f"{field}.{name}", least=_SMALLEST.get(name, 1), most=most)
    return Limits(**values)


def _in_range(value: int, field: str, *, least: int, most: int) -> int:
    if not least <= value <= most:
        raise InvalidArgument(field=field, problem=f"must be from {least} to {most}; {value} was sent")
    return value


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
                field=f"{field}.blocked_builtins", problem=f"{_shown(name)} is not a name of a builtin"
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
                field=field, problem=f"{_shown(name)} is not a module name such as json or urllib.parse"
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
            field=f"{field}.database", problem=f"{_shown(message.database)} is not configured; known: {known}"
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
    return _in_range(value, field, least=1, most=2**53)


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
            f"{field}.table: writes to {_shown(message.table)} can't be granted; tables that can: {known}"
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
        count = _in_range(message.history_count, f"{field}.history_count", least=0, most=_MAX_HISTORY)
    disabled = mode == checkpoint_pb2.CheckpointPolicy.MODE_DISABLED
    return CheckpointPolicy(
        mode=CheckpointMode.DISABLED if disabled else CheckpointMode.AUTOMATIC,
        history_count=count,
        memory_bytes=_optional(message, "memory_bytes", f"{field}.memory_bytes"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The limits under which a request is read, and which call it is."""

    limits: Limits
    kind: ExecutionKind


def execution(
    *,
    code: str,
    request_id_text: str,
    options: execution_pb2.ExecutionOptions,
    target: Target,
    extra_inputs: tuple[Input, ...] = (),
    debug: DebugSettings | None = None,
) -> ExecutionRequest:
    """What is to be run and how."""
    timeout = None
    if options.HasField("timeout"):
        timeout = duration(options.timeout, "options.timeout", most=target.limits.execution_timeout)
    busy = known_enum(options.if_busy, execution_pb2.ExecutionOptions.IfBusy, "options.if_busy")
    gone = known_enum(
        options.on_disconnect, execution_pb2.ExecutionOptions.OnDisconnect, "options.on_disconnect"
    )
    return ExecutionRequest(
        code=source(code, target.limits),
        kind=target.kind,
        request_id=request_id(request_id_text),
        timeout=timeout,
        rollback_on_error=options.rollback_on_error,
        capture_frames=options.capture_frames if options.HasField("capture_frames") else None,
        when_busy=WhenBusy.REFUSE
        if busy == execution_pb2.ExecutionOptions.IF_BUSY_REFUSE
        else WhenBusy.QUEUE,
        detach_on_disconnect=gone == execution_pb2.ExecutionOptions.ON_DISCONNECT_DETACH,
        inputs=(*_inputs(options.inputs), *extra_inputs),
        debug=debug,
    )


def _inputs(messages: Iterable[execution_pb2.InputVariable]) -> tuple[Input, ...]:
    inputs = tuple(_input(message, f"options.inputs[{number}]") for number, message in enumerate(messages))
    if len(inputs) > _MAX_INPUTS:
        raise InvalidArgument(
            field="options.inputs", problem=f"has {len(inputs)} entries; at most {_MAX_INPUTS}"
        )
    return inputs


def _input(message: execution_pb2.InputVariable, field: str) -> Input:
    if not message.name.isidentifier() or message.name.startswith("__"):
        raise InvalidArgument(
            field=f"{field}.name", problem=f"{_shown(message.name)} is not a Python name without leading __"
        )
    match message.WhichOneof("content"):
        case "json":
            return Input(
                name=message.name, format="json", payload=bounded_text(message.json, f"{field}.json")
            )
        case "csv":
            return Input(name=message.name, format="csv", payload=bounded_text(message.csv, f"{field}.csv"))
        case _:
            raise InvalidArgument(field=f"{field}.content", problem="is required: json or csv")


def bounded_text(text: str, field: str) -> str:
    """Input text of at most 1 MiB."""
    size = len(text.encode())
    if size > _MAX_INPUT_BYTES:
        raise InvalidArgument(
            field=field, problem=f"has {size} bytes; at most {_MAX_INPUT_BYTES} are allowed"
        )
    return text


def known_enum(value: Any, enum: Any, field: str) -> Any:
    """A value of an enum that this server knows."""
    if value not in enum.values():
        names = ", ".join(name for name, number in enum.items() if number)
        raise InvalidArgument(field=field, problem=f"{value} is not a known value; known: {names}")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
