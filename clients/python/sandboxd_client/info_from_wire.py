"""Sandboxes, checkpoints, statistics and capabilities out of protobuf messages."""

from sandboxd_api.v1 import (
    capabilities_pb2,
    checkpoint_pb2,
    execution_pb2,
    sandbox_pb2,
    sandbox_service_pb2,
    statistics_pb2,
)

from sandboxd_client import info
from sandboxd_client.from_wire import checkpoint_report, moment, span, status, variable, word
from sandboxd_client.options import LanguagePolicy, Limits


def limits(found: sandbox_pb2.Limits) -> Limits:
    """Limits, those that are set."""
    values = {field.name: value for field, value in found.ListFields()}
    for name in ("execution_timeout", "idle_timeout"):
        if name in values:
            values[name] = span(values[name])
    return Limits(**values)


def language_policy(found: sandbox_pb2.LanguagePolicy) -> LanguagePolicy:
    """Language rules."""
    return LanguagePolicy(
        unrestricted=found.mode == sandbox_pb2.LanguagePolicy.MODE_UNRESTRICTED,
        allowed_modules=tuple(found.allowed_modules),
        extra_allowed_modules=tuple(found.extra_allowed_modules),
        blocked_builtins=tuple(found.blocked_builtins),
    )


def _grade(value: int) -> str:
    return word(sandbox_pb2.IsolationGrade, value, "ISOLATION_GRADE_")


def sandbox(found: sandbox_pb2.Sandbox) -> info.SandboxInfo:
    """A sandbox."""
    return info.SandboxInfo(
        id=found.id,
        user_id=found.user_id,
        state=word(sandbox_pb2.Sandbox.State, found.state, "STATE_"),
        limits=limits(found.spec.limits),
        enable_debugging=found.spec.enable_debugging,
        create_time=moment(found.create_time),
        last_use_time=moment(found.last_use_time),
        expire_time=moment(found.expire_time),
        end_time=moment(found.end_time),
        execution_count=found.execution_count,
        running_execution_id=found.running_execution_id,
        queued_execution_count=found.queued_execution_count,
        origin_sandbox_id=found.origin_sandbox_id,
        family_id=found.family_id,
        checkpoint=checkpoint_report(found.checkpoint),
        isolation_grade=_grade(found.isolation_grade),
    )


def sandbox_state(found: sandbox_service_pb2.GetSandboxStateResponse) -> info.SandboxState:
    """What a session holds."""
    return info.SandboxState(
        sandbox=sandbox(found.sandbox),
        variables={item.name: variable(item) for item in found.variables},
        total_variable_count=found.total_variable_count,
        live_thread_count=found.live_thread_count,
        memory_bytes=found.memory_bytes,
        workspace_bytes=found.workspace_bytes,
    )


def checkpoint(found: checkpoint_pb2.Checkpoint) -> info.Checkpoint:
    """A kept state."""
    return info.Checkpoint(
        id=found.id,
        sandbox_id=found.sandbox_id,
        name=found.name,
        after_execution_id=found.after_execution_id,
        after_execution_number=found.after_execution_number,
        create_time=moment(found.create_time),
        memory_bytes=found.memory_bytes,
        ahead=found.ahead,
    )


def rewound(found: sandbox_service_pb2.RewindSandboxResponse) -> info.Rewound:
    """What a rewind did."""
    return info.Rewound(
        sandbox=sandbox(found.sandbox),
        restored=checkpoint(found.restored),
        left=checkpoint(found.left) if found.HasField("left") else None,
    )


def guest_function(found: sandbox_pb2.GuestFunction) -> info.GuestFunction:
    """A function of the guest API."""
    return info.GuestFunction(
        name=found.name,
        signature=found.signature,
        description=found.description,
        example=found.example,
        category=found.category,
        awaitable=found.awaitable,
        available=found.available,
    )


def code_example(found: sandbox_pb2.CodeExample) -> info.CodeExample:
    """A complete piece of code."""
    return info.CodeExample(
        name=found.name,
        title=found.title,
        description=found.description,
        code=found.code,
        requires_database=found.requires_database,
    )


def statistics(found: statistics_pb2.Statistics) -> info.Statistics:
    """Figures."""
    phases = {
        word(statistics_pb2.PhaseTimes.Phase, item.phase, "PHASE_"): info.PhaseTimes(
            count=item.count,
            mean=span(item.mean),
            p50=span(item.p50),
            p90=span(item.p90),
            p99=span(item.p99),
            maximum=span(item.maximum),
        )
        for item in found.phase_times
    }
    return info.Statistics(
        start_time=moment(found.start_time),
        end_time=moment(found.end_time),
        active_sandbox_count=found.active_sandbox_count,
        created_sandbox_count=found.created_sandbox_count,
        running_execution_count=found.running_execution_count,
        queued_execution_count=found.queued_execution_count,
        finished_execution_count=found.finished_execution_count,
        success_percent=found.success_percent,
        average_execution_time=span(found.average_execution_time),
        status_counts={status(item.state): item.count for item in found.state_counts},
        phase_times=phases,
        limit_counts={
            word(execution_pb2.LimitReceipt.Limit, item.limit, "LIMIT_"): item.count
            for item in found.limit_counts
        },
        query_count=found.query_count,
        ready_guest_count=found.ready_guest_count,
    )


def capabilities(found: capabilities_pb2.Capabilities) -> info.Capabilities:
    """What a server can do."""
    layers = tuple(
        info.IsolationLayer(
            name=layer.name,
            state=word(capabilities_pb2.IsolationLayer.State, layer.state, "STATE_"),
            detail=layer.detail,
            remedy=layer.remedy,
        )
        for layer in found.isolation_layers
    )
    return info.Capabilities(
        isolation_grade=_grade(found.isolation_grade),
        isolation_layers=layers,
        default_limits=limits(found.default_limits),
        maximum_limits=limits(found.maximum_limits),
        versions={item.name: item.version for item in found.versions},
        default_language_policy=language_policy(found.default_language_policy),
        unrestricted_allowed=found.unrestricted_allowed,
        databases=tuple(found.databases),
        checkpoints=found.checkpoints,
        checkpoints_missing_reason=found.checkpoints_missing_reason,
        trace_engine=found.trace_engine,
        maximum_request_bytes=found.maximum_request_bytes,
        maximum_fork_count=found.maximum_fork_count,
    )
