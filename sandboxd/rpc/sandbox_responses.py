"""Sandboxes and what they were made with, as they go over the wire. Pure, as all responses are."""

from dataclasses import fields
from datetime import timedelta
from typing import Any

from sandboxd_api.v1 import checkpoint_pb2, sandbox_pb2

from sandboxd.isolation.plan import Grade
from sandboxd.limits import Limits
from sandboxd.policy import LanguagePolicy
from sandboxd.rpc.responses import checkpoint_report, seconds, timestamp
from sandboxd.sandboxes import records
from sandboxd.sandboxes.model import CheckpointMode, SandboxSpec
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.store.records import SandboxRecord


def limits(value: Limits) -> sandbox_pb2.Limits:
    """Limits, every field set."""
    message = sandbox_pb2.Limits()
    for item in fields(Limits):
        given: Any = getattr(value, item.name)
        if isinstance(given, timedelta):
            getattr(message, item.name).FromTimedelta(given)
        else:
            setattr(message, item.name, given)
    return message


def language_policy(policy: LanguagePolicy) -> sandbox_pb2.LanguagePolicy:
    """The language rules in force."""
    modes = sandbox_pb2.LanguagePolicy
    return sandbox_pb2.LanguagePolicy(
        mode=modes.MODE_RESTRICTED if policy.restricted else modes.MODE_UNRESTRICTED,
        allowed_modules=policy.allowed_modules,
        blocked_builtins=policy.blocked_builtins,
    )


def spec(value: SandboxSpec) -> sandbox_pb2.SandboxSpec:
    """What a sandbox was made with, defaults filled in."""
    modes = checkpoint_pb2.CheckpointPolicy
    automatic = value.checkpoints.mode is CheckpointMode.AUTOMATIC
    policy = checkpoint_pb2.CheckpointPolicy(
        mode=modes.MODE_AUTOMATIC if automatic else modes.MODE_DISABLED,
        history_count=value.checkpoints.history_count,
        memory_bytes=value.checkpoints.memory_bytes,
    )
    message = sandbox_pb2.SandboxSpec(
        limits=limits(value.limits),
        language_policy=language_policy(value.policy),
        checkpoint_policy=policy,
        enable_debugging=value.enable_debugging,
    )
    for grant in value.database_grants:
        added = message.database_grants.add(
            database=grant.database,
            is_default=grant.is_default,
            tables=grant.tables,
            max_affected_rows=grant.max_affected_rows,
        )
        for write in grant.write_grants:
            operation = sandbox_pb2.WriteGrant.Operation.Value(f"OPERATION_{write.operation.value}")
            added.write_grants.add(table=write.table, operation=operation, columns=write.columns)
        if grant.max_rows is not None:
            added.query_limits.max_rows = grant.max_rows
        if grant.max_bytes is not None:
            added.query_limits.max_bytes = grant.max_bytes
        if grant.timeout_seconds is not None:
            added.query_limits.timeout.CopyFrom(seconds(grant.timeout_seconds))
    return message


def grade(value: Grade) -> "sandbox_pb2.IsolationGrade.ValueType":
    """A grade of isolation; INSUFFICIENT never serves."""
    return sandbox_pb2.IsolationGrade.Value(f"ISOLATION_GRADE_{value.value}")


def sandbox(value: Sandbox, isolation: Grade) -> sandbox_pb2.Sandbox:
    """A sandbox as it stands."""
    message = sandbox_pb2.Sandbox(
        id=value.id,
        user_id=value.user_id,
        state=sandbox_pb2.Sandbox.State.Value(f"STATE_{value.state.value}"),
        spec=spec(value.spec),
        create_time=timestamp(value.create_time),
        last_use_time=timestamp(value.last_use_time),
        expire_time=timestamp(value.expire_time),
        execution_count=value.execution_count,
        running_execution_id=value.running_execution_id,
        queued_execution_count=value.waiting,
        origin_sandbox_id=value.origin_id,
        family_id=value.family_id,
        checkpoint=checkpoint_report(value.session.states.report),
        isolation_grade=grade(isolation),
    )
    if value.end_time is not None:
        message.end_time.CopyFrom(timestamp(value.end_time))
    return message


def ended_sandbox(record: SandboxRecord) -> sandbox_pb2.Sandbox:
    """A sandbox of which only the record is left."""
    message = sandbox_pb2.Sandbox(
        id=record.id,
        user_id=record.user_id,
        state=sandbox_pb2.Sandbox.State.Value(f"STATE_{records.state_of(record).value}"),
        spec=spec(records.spec_of(record)),
        create_time=timestamp(record.create_time),
    )
    if record.end_time is not None:
        message.end_time.CopyFrom(timestamp(record.end_time))
    return message
