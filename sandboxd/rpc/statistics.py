"""GetStatistics: figures of the executions that are kept, for one user, one sandbox, or all."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from sandboxd_api.v1 import execution_pb2, statistics_pb2
from sandboxd_api.v1 import sandbox_service_pb2 as pb

from sandboxd.accounts.principals import Principal, acting_user
from sandboxd.executions.history import ExecutionHistory
from sandboxd.executions.model import Execution, ExecutionState, Usage
from sandboxd.rpc import requests, responses
from sandboxd.sandboxes.registry import SandboxRegistry

_LONGEST_WINDOW = timedelta(days=3650)

_PHASES: tuple[tuple[str, Callable[[Usage], float]], ...] = (
    ("PHASE_QUEUE", lambda usage: usage.queue_seconds),
    ("PHASE_START", lambda usage: usage.start_seconds),
    ("PHASE_RUN", lambda usage: usage.wall_seconds),
    ("PHASE_END", lambda usage: usage.end_seconds),
)


class StatisticsSource:
    """Counts over the history; cheap enough to be asked every second."""

    def __init__(self, *, history: ExecutionHistory, registry: SandboxRegistry) -> None:
        self._history = history
        self._registry = registry

    def answer(self, request: pb.GetStatisticsRequest, caller: Principal) -> statistics_pb2.Statistics:
        """Figures of what the caller may see."""
        since = None
        if request.HasField("window"):
            since = datetime.now(UTC) - requests.duration(request.window, "window", most=_LONGEST_WINDOW)
        user = acting_user(caller, requests.user_id(request.user_id)) if request.user_id else ""
        executions = [
            live.execution
            for live in self._history.newest_first(owner=caller.name)
            if _matches(live.execution, user=user, sandbox=request.sandbox_id, since=since)
        ]
        message = _figures(executions)
        sandboxes = self._registry.list(owner=caller.name)
        message.active_sandbox_count = sum(
            (not user or sandbox.user_id == user) and request.sandbox_id in ("", sandbox.id)
            for sandbox in sandboxes
        )
        message.created_sandbox_count = self._registry.created_count
        if since is not None:
            message.start_time.CopyFrom(responses.timestamp(since))
        message.end_time.CopyFrom(responses.timestamp(datetime.now(UTC)))
        return message


def _matches(item: Execution, *, user: str, sandbox: str, since: datetime | None) -> bool:
    return (
        (not user or item.user_id == user)
        and (not sandbox or item.sandbox_id == sandbox)
        and (since is None or item.create_time >= since)
    )


def _figures(executions: Sequence[Execution]) -> statistics_pb2.Statistics:
    states = Counter(item.state for item in executions)
    results = [item.result for item in executions if item.result is not None]
    message = statistics_pb2.Statistics(
        running_execution_count=states[ExecutionState.RUNNING],
        queued_execution_count=states[ExecutionState.QUEUED],
        finished_execution_count=len(results),
        query_count=sum(item.query_count for item in executions),
    )
    if results:
        message.success_percent = 100.0 * states[ExecutionState.SUCCEEDED] / len(results)
        walls = [result.usage.wall_seconds for result in results]
        message.average_execution_time.CopyFrom(responses.seconds(sum(walls) / len(walls)))
    for state, count in states.items():
        message.state_counts.add(
            state=execution_pb2.Execution.State.Value(f"STATE_{state.value}"), count=count
        )
    limits = Counter(result.limit_receipt.limit for result in results if result.limit_receipt)
    for limit, count in limits.items():
        message.limit_counts.add(
            limit=execution_pb2.LimitReceipt.Limit.Value(f"LIMIT_{limit.value}"), count=count
        )
    for name, pick in _PHASES:
        _add_phase(message, name, sorted(pick(result.usage) for result in results))
    return message


def _add_phase(message: statistics_pb2.Statistics, name: str, times: list[float]) -> None:
    if not times:
        return

    def at(fraction: float) -> float:
        return times[min(len(times) - 1, int(fraction * len(times)))]

    message.phase_times.add(
        phase=statistics_pb2.PhaseTimes.Phase.Value(name),
        count=len(times),
        mean=responses.seconds(sum(times) / len(times)),
        p50=responses.seconds(at(0.5)),
        p90=responses.seconds(at(0.9)),
        p99=responses.seconds(at(0.99)),
        maximum=responses.seconds(times[-1]),
    )
