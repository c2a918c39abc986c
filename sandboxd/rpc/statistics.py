"""GetStatistics: figures of the store and of this moment, for one user, one sandbox, or all."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sandboxd_api.v1 import execution_pb2, statistics_pb2
from sandboxd_api.v1 import sandbox_service_pb2 as pb

from sandboxd.accounts.principals import Principal, Role, acting_user
from sandboxd.errors import Denied
from sandboxd.executions.admission import Admission
from sandboxd.rpc import requests, responses
from sandboxd.sandboxes.registry import SandboxRegistry
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.records import PhaseFigures, Statistics
from sandboxd.store.store import Store

_LONGEST_WINDOW = timedelta(days=3650)
_MICROS = 1_000_000


class StatisticsSource:
    """Counts what the caller may see."""

    def __init__(
        self,
        *,
        store: Store,
        registry: SandboxRegistry,
        admission: Admission,
        ready_guests: Callable[[], int],
    ) -> None:
        self._store = store
        self._ready_guests = ready_guests
        self._registry = registry
        self._admission = admission

    async def answer(self, request: pb.GetStatisticsRequest, caller: Principal) -> statistics_pb2.Statistics:
        """Figures of the caller's executions; of all callers' for an admin who asks for them."""
        if request.all_users and caller.role is Role.USER:
            raise Denied(problem="figures of all users need the role service or admin")
        now = datetime.now(UTC)
        since = None
        if request.HasField("window"):
            since = now - requests.duration(request.window, "window", most=_LONGEST_WINDOW)
        user = acting_user(caller, requests.user_id(request.user_id)) if request.user_id else None
        owner = None if request.all_users and caller.role is Role.ADMIN else caller.name
        figures = await self._store.statistics(
            ExecutionFilter(
                owner=owner, user_id=user, sandbox_id=request.sandbox_id or None, created_from=since
            )
        )
        message = _figures(figures)
        message.active_sandbox_count = sum(
            user in (None, sandbox.user_id) and request.sandbox_id in ("", sandbox.id)
            for sandbox in self._registry.all_of(owner=owner)
        )
        message.running_execution_count = self._admission.running_count
        message.queued_execution_count = self._admission.queued_count
        message.ready_guest_count = self._ready_guests()
        if since is not None:
            message.start_time.CopyFrom(responses.timestamp(since))
        message.end_time.CopyFrom(responses.timestamp(now))
        return message


def _figures(figures: Statistics) -> statistics_pb2.Statistics:
    message = statistics_pb2.Statistics(
        created_sandbox_count=figures.created_sandboxes,
        finished_execution_count=figures.finished_executions,
        success_percent=100.0 * (figures.success_rate or 0.0),
        query_count=figures.queries,
    )
    if figures.average_execution_seconds is not None:
        message.average_execution_time.CopyFrom(responses.seconds(figures.average_execution_seconds))
    for state, count in figures.executions_by_state.items():
        message.state_counts.add(
            state=execution_pb2.Execution.State.Value(f"STATE_{state.value}"), count=count
        )
    for limit, count in figures.executions_by_limit.items():
        message.limit_counts.add(limit=execution_pb2.LimitReceipt.Limit.Value(f"LIMIT_{limit}"), count=count)
    for phase, times in figures.phases.items():
        if times.count:
            _add_phase(message, phase, times)
    return message


def _add_phase(message: statistics_pb2.Statistics, phase: str, times: PhaseFigures) -> None:
    message.phase_times.add(
        phase=statistics_pb2.PhaseTimes.Phase.Value(f"PHASE_{phase.upper()}"),
        count=times.count,
        mean=responses.seconds(times.mean_us / _MICROS),
        p50=responses.seconds(times.p50_us / _MICROS),
        p90=responses.seconds(times.p90_us / _MICROS),
        p99=responses.seconds(times.p99_us / _MICROS),
        maximum=responses.seconds(times.maximum_us / _MICROS),
    )
