"""What a caller may ask of a sandbox or an execution, as plain objects, and how it goes over the wire."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict

from google.protobuf.duration_pb2 import Duration
from sandboxd_api.v1 import checkpoint_pb2, execution_pb2, sandbox_pb2

from sandboxd_client.encoding import json_or_csv
from sandboxd_client.errors import InvalidArgument

Span: TypeAlias = timedelta | float
"""A length of time: a timedelta, or seconds."""


def duration(span: Span) -> Duration:
    """`span` as it goes over the wire."""
    found = Duration()
    found.FromTimedelta(span if isinstance(span, timedelta) else timedelta(seconds=span))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds of a sandbox; None takes the server's default. Beyond the most is `InvalidArgument`."""

    execution_timeout: Span | None = None
    """Wall-clock time of one execution."""
    memory_bytes: int | None = None
    cpu_percent: int | None = None
    """Share of one core; 100 is one whole core."""
    open_files: int | None = None
    threads: int | None = None
    output_bytes: int | None = None
    result_bytes: int | None = None
    log_bytes: int | None = None
    source_bytes: int | None = None
    workspace_bytes: int | None = None
    workspace_inodes: int | None = None
    idle_timeout: Span | None = None
    """Life of the sandbox after its last use."""

    def to_wire(self) -> sandbox_pb2.Limits:
        """Only what was given."""
        found = sandbox_pb2.Limits()
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if value is None:
                continue
            if field.name in ("execution_timeout", "idle_timeout"):
                getattr(found, field.name).CopyFrom(duration(value))
            else:
                setattr(found, field.name, value)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePolicy:
    """What user code may import and call: guidance; the kernel isolates either way."""

    unrestricted: bool = False
    """No language rules."""
    allowed_modules: Sequence[str] = ()
    """In place of the server's list; empty means the server's."""
    extra_allowed_modules: Sequence[str] = ()
    """Beside `allowed_modules`."""
    blocked_builtins: Sequence[str] = ()
    """In place of the server's list; empty means the server's."""

    def to_wire(self) -> sandbox_pb2.LanguagePolicy:
        """As it goes over the wire; not `unrestricted` leaves the mode to the server."""
        modes = sandbox_pb2.LanguagePolicy
        return modes(
            mode=modes.MODE_UNRESTRICTED if self.unrestricted else modes.MODE_UNSPECIFIED,
            allowed_modules=self.allowed_modules,
            extra_allowed_modules=self.extra_allowed_modules,
            blocked_builtins=self.blocked_builtins,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteGrant:
    """Leave to change one table in one way."""

    table: str
    operation: Literal["insert", "update", "delete"]
    columns: Sequence[str] = ()
    """Columns that may be set by insert or update."""

    def to_wire(self) -> sandbox_pb2.WriteGrant:
        """As it goes over the wire."""
        operation = sandbox_pb2.WriteGrant.Operation.Value(f"OPERATION_{self.operation.upper()}")
        return sandbox_pb2.WriteGrant(table=self.table, operation=operation, columns=self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLimits:
    """Caps of a query; None takes the default."""

    max_rows: int | None = None
    max_bytes: int | None = None
    timeout: Span | None = None

    def to_wire(self) -> sandbox_pb2.QueryLimits:
        """Only what was given."""
        found = sandbox_pb2.QueryLimits(max_rows=self.max_rows, max_bytes=self.max_bytes)
        if self.timeout is not None:
            found.timeout.CopyFrom(duration(self.timeout))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseGrant:
    """Leave to use one database."""

    database: str
    is_default: bool = False
    tables: Sequence[str] = ()
    """Tables that may be read; empty means all that the server shows."""
    write_grants: Sequence[WriteGrant] = ()
    max_affected_rows: int | None = None
    query_limits: QueryLimits | None = None

    def to_wire(self) -> sandbox_pb2.DatabaseGrant:
        """As it goes over the wire."""
        return sandbox_pb2.DatabaseGrant(
            database=self.database,
            is_default=self.is_default,
            tables=self.tables,
            write_grants=[grant.to_wire() for grant in self.write_grants],
            max_affected_rows=self.max_affected_rows,
            query_limits=self.query_limits.to_wire() if self.query_limits else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPolicy:
    """How a sandbox keeps states of its session."""

    enabled: bool | None = None
    """None leaves it to the server."""
    history_count: int | None = None
    """Earlier states kept for rewinding, 0 to 32."""
    memory_bytes: int | None = None

    def to_wire(self) -> checkpoint_pb2.CheckpointPolicy:
        """As it goes over the wire."""
        policy = checkpoint_pb2.CheckpointPolicy
        mode = {None: policy.MODE_UNSPECIFIED, True: policy.MODE_AUTOMATIC, False: policy.MODE_DISABLED}
        return policy(
            mode=mode[self.enabled], history_count=self.history_count, memory_bytes=self.memory_bytes
        )


Policy: TypeAlias = Literal["restricted", "unrestricted"] | LanguagePolicy
Databases: TypeAlias = Sequence[DatabaseGrant | str]


class SpecOptions(TypedDict, total=False):
    """What is asked of a sandbox. Every key may be left out."""

    limits: Limits
    language_policy: Policy
    """`"restricted"`, `"unrestricted"`, or a policy of your own; default: the server's."""
    databases: Databases
    """Databases it may query, by name or as grants."""
    checkpoints: CheckpointPolicy
    enable_debugging: bool
    """Frames with variables on failure, and full values of inspected variables."""


def spec(options: SpecOptions) -> sandbox_pb2.SandboxSpec:
    """What is asked of a sandbox, as it goes over the wire."""
    limits, checkpoints = options.get("limits"), options.get("checkpoints")
    return sandbox_pb2.SandboxSpec(
        limits=limits.to_wire() if limits else None,
        language_policy=_policy(options.get("language_policy")),
        database_grants=[
            (DatabaseGrant(database=grant) if isinstance(grant, str) else grant).to_wire()
            for grant in options.get("databases", ())
        ],
        checkpoint_policy=checkpoints.to_wire() if checkpoints else None,
        enable_debugging=options.get("enable_debugging", False),
    )


def _policy(policy: Policy | None) -> sandbox_pb2.LanguagePolicy | None:
    if policy is None:
        return None
    if isinstance(policy, LanguagePolicy):
        return policy.to_wire()
    word = word_of(policy, ("restricted", "unrestricted"), field="language_policy")
    mode = sandbox_pb2.LanguagePolicy.Mode.Value(f"MODE_{word}")
    return sandbox_pb2.LanguagePolicy(mode=mode)


class RunOptions(TypedDict, total=False):
    """How one execution is run. Every key may be left out."""

    timeout: Span
    """Wall-clock time of user code; default and most: the sandbox's `execution_timeout`."""
    inputs: Mapping[str, object]
    """Variables bound before the run: JSON-able objects, a DataFrame, or `Csv` text."""
    rollback_on_error: bool
    """Whether the session goes back to the state before when the code does not complete."""
    capture_frames: bool
    """Whether an error carries its frames with their variables; default: the sandbox's `enable_debugging`."""
    if_busy: Literal["queue", "refuse"]
    """What to do when another execution runs; default: wait for a turn."""
    on_disconnect: Literal["cancel", "detach"]
    """What becomes of it when this call ends before it; default: it is cancelled."""


class CallOptions(RunOptions, total=False):
    """How one execution is run, and how it is called."""

    deadline: float
    """Seconds for the whole call, queueing and retries included; default: none, the server bounds it."""
    request_id: str
    """Names the request for retries of your own; default: a new one, which the client's retries use."""


def execution_options(options: RunOptions) -> execution_pb2.ExecutionOptions:
    """How one execution is run."""
    if_busy = word_of(options.get("if_busy", "queue"), ("queue", "refuse"), field="if_busy")
    disconnect = word_of(options.get("on_disconnect", "cancel"), ("cancel", "detach"), field="on_disconnect")
    found = execution_pb2.ExecutionOptions(
        rollback_on_error=options.get("rollback_on_error", False),
        capture_frames=options.get("capture_frames"),
        if_busy=execution_pb2.ExecutionOptions.IfBusy.Value(f"IF_BUSY_{if_busy}"),
        on_disconnect=execution_pb2.ExecutionOptions.OnDisconnect.Value(f"ON_DISCONNECT_{disconnect}"),
        inputs=[_input(name, data) for name, data in options.get("inputs", {}).items()],
    )
    if options.get("timeout") is not None:
        found.timeout.CopyFrom(duration(options["timeout"]))
    return found


class Csv(str):
    """CSV text with a header line, to be bound as a DataFrame rather than as a string."""

    __slots__ = ()


def _input(name: str, data: object) -> execution_pb2.InputVariable:
    if isinstance(data, Csv):
        return execution_pb2.InputVariable(name=name, csv=data)
    field = f"options.inputs[{name}]"
    kind, text = ("json", json.dumps(data)) if isinstance(data, str) else json_or_csv(data, field=field)
    if kind == "csv":
        return execution_pb2.InputVariable(name=name, csv=text)
    return execution_pb2.InputVariable(name=name, json=text)


def word_of(value: str, allowed: Sequence[str], *, field: str) -> str:
    """`value` in upper case; `InvalidArgument` naming `field` when it is none of `allowed`."""
    if value not in allowed:
        problem = f"{value!r} is none of {', '.join(allowed)}"
        raise InvalidArgument(f"{field}: {problem}", violations={field: problem})
    return value.upper()
