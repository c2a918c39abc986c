"""Answers of the service object as plain dicts."""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from sandboxd_client import info
from sandboxd_client.debug_steps import DebugStep
from sandboxd_client.debugging import DebugEvent, DebugFinished, DebugStarted
from sandboxd_client.results import Execution, Status


def status(found: info.SandboxInfo) -> dict[str, Any]:
    """A sandbox."""
    return {
        "sandbox_id": found.id,
        "user_id": found.user_id,
        "status": found.state,
        "created_at": found.create_time,
        "last_used_at": found.last_use_time,
        "expires_at": found.expire_time,
        "execution_count": found.execution_count,
        "running_execution_id": found.running_execution_id,
        "enable_debugging": found.enable_debugging,
        "limits": plain(found.limits),
        "isolation_grade": found.isolation_grade,
    }


def state(found: info.SandboxState) -> dict[str, Any]:
    """A sandbox and what its session holds."""
    return status(found.sandbox) | {
        "variables": {name: variable.summary for name, variable in found.variables.items()},
        "variable_types": {name: variable.type_name for name, variable in found.variables.items()},
        "total_variables": found.total_variable_count,
        "live_threads": found.live_thread_count,
        "memory_bytes": found.memory_bytes,
        "workspace_bytes": found.workspace_bytes,
    }


def execution(found: Execution) -> dict[str, Any]:
    """One execution of a history."""
    error = found.result.error if found.result else None
    usage = found.result.usage if found.result else None
    return {
        "execution_id": found.id,
        "sandbox_id": found.sandbox_id,
        "number": found.number,
        "kind": found.kind,
        "status": found.status,
        "created_at": found.create_time,
        "started_at": found.start_time,
        "ended_at": found.end_time,
        "execution_time": usage.wall_time.total_seconds() if usage else None,
        "error": str(error) if error else None,
        "code": found.code,
    }


def statistics(found: info.Statistics) -> dict[str, Any]:
    """Figures."""
    return {
        "active_sandboxes": found.active_sandbox_count,
        "created_sandboxes": found.created_sandbox_count,
        "total_executions": found.finished_execution_count,
        "running_executions": found.running_execution_count,
        "queued_executions": found.queued_execution_count,
        "success_rate": found.success_percent,
        "average_execution_time": found.average_execution_time.total_seconds(),
        "executions_by_status": dict(found.status_counts),
        "limits_reached": dict(found.limit_counts),
        "phases": {
            phase: {
                "count": times.count,
                "mean": times.mean.total_seconds(),
                "p50": times.p50.total_seconds(),
                "p90": times.p90.total_seconds(),
                "p99": times.p99.total_seconds(),
                "maximum": times.maximum.total_seconds(),
            }
            for phase, times in found.phase_times.items()
        },
        "queries": found.query_count,
    }


def guest_api(found: info.GuestApi) -> dict[str, Any]:
    """What user code may use."""
    return {
        "functions": [plain(function) for function in found.functions],
        "allowed_modules": list(found.allowed_modules),
        "blocked_builtins": list(found.blocked_builtins),
    }


def plain(found: Any) -> dict[str, Any]:
    """A dataclass as a dict."""
    return asdict(found)


async def debug_steps(events: AsyncIterator[DebugEvent]) -> AsyncIterator[dict[str, Any]]:
    """Steps of a debug run as dicts; one more at the end has the whole result."""
    last: dict[str, Any] = {"line_number": 0, "line_code": "", "step": 0, "stack": []}
    variables: dict[str, Any] = {}
    execution_id = ""
    async for event in events:
        if isinstance(event, DebugStarted):
            execution_id = event.execution_id
        elif isinstance(event, DebugStep):
            variables = {name: item.value for name, item in event.variables.items() if item.bound}
            last = _step(event, variables, execution_id)
            if not (event.event == "return" and event.function == "<module>"):
                yield last  # the return of the whole program is what `finished` tells
        elif isinstance(event, DebugFinished):
            yield last | {
                "event": "finished",
                "result": event.result,
                "changed": [],
                "stdout": "",
                "summary": plain(event.summary),
            }


def _step(step: DebugStep, variables: dict[str, Any], execution_id: str) -> dict[str, Any]:
    return {
        "step": step.step,
        "line_number": step.line,
        "line_code": step.source_line,
        "event": step.event,
        "function": step.function,
        "result": StepResult(execution_id=execution_id, status=step.status, result=step.result),
        "state": {"variables": variables, "changed": list(step.changes)},
        "stack": [frame.function for frame in step.stack],
        "changed": list(step.changes),
        "stdout": step.stdout,
        "elapsed": step.elapsed.total_seconds(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """Where a debug run stands at a step."""

    execution_id: str
    status: Status
    result: Any = None
    """The value of an expression, return, yield or exception at this step."""
