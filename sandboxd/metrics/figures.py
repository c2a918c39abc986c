"""What the server counts for Prometheus: outcomes, phases, limits, refusals, queries.

Every label's values are names of this program, never of users, sandboxes or user code: the number of
series is bounded. The figures live in a registry of their own, made by whoever makes the object.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sandboxd.database.audit import Verdict
from sandboxd.executions.model import Execution

_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""Seconds; from a start out of the pool to the longest execution by default."""
_PHASES = ("queue", "start", "run", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the server holds at one moment."""

    ready_guests: int
    live_guests: int
    active_sandboxes: int
    running_executions: int
    queued_executions: int
    aged_zygotes: int
    """Replaced because of their age, since the start of the server."""
    dead_zygotes: int
    """Replaced because they had died, since the start of the server."""
    silent_zygotes: int
    """Replaced because they no longer answered, since the start of the server."""
    histories_set_aside: int
    """Databases of the history that were damaged or not ours, since the start of the server."""


class Figures:
    """Counts what happens and shows what is. Belongs to one event loop; nothing here waits.

    An execution costs some microseconds: labels are looked up once for each value they take.
    """

    def __init__(
        self, *, registry: CollectorRegistry, moment: Callable[[], Moment], version: str, grade: str
    ) -> None:
        self._executions = Counter(
            "sandboxd_executions",
            "Executions that ended, by final state and kind of failure (empty where there was none).",
            ("state", "failure"),
            registry=registry,
        )
        phases = Histogram(
            "sandboxd_execution_phase_seconds",
            "Time of executions that ran: waiting for their turn, starting, user code, ending.",
            ("phase",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._limits = Counter(
            "sandboxd_limits_hit", "Executions ended by a limit.", ("limit",), registry=registry
        )
        self._refused = Counter(
            "sandboxd_calls_refused",
            "Calls that ended with an error, by its reason; INTERNAL is a bug of the server.",
            ("reason",),
            registry=registry,
        )
        self._queries = Counter(
            "sandboxd_queries", "SQL statements, by what became of them.", ("verdict",), registry=registry
        )
        self._outcomes: dict[tuple[str, str], Counter] = {}
        self._queue, self._start, self._run, self._end = (phases.labels(phase) for phase in _PHASES)
        registry.register(_MomentCollector(moment, version=version, grade=grade))
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

    def execution_finished(self, execution: Execution) -> None:
        """An execution has its result."""
        result = execution.result
        if result is None:
            return
        failure = result.failure.kind.value if result.failure else ""
        key = (result.state.value, failure)
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = self._outcomes[key] = self._executions.labels(*key)
        outcome.inc()
        if result.limit_receipt is not None:
            self._limits.labels(result.limit_receipt.limit.value).inc()
        if execution.start_time is not None:
            usage = result.usage
            self._queue.observe(usage.queue_seconds)
            self._start.observe(usage.start_seconds)
            self._run.observe(usage.wall_seconds)
            self._end.observe(usage.end_seconds)

    def call_refused(self, reason: str) -> None:
        """A call ended with an error; `reason` is that of its class."""
        self._refused.labels(reason).inc()

    def query_recorded(self, verdict: Verdict) -> None:
        """A query was written to the audit. The record ahead of a commit is not its end."""
        if verdict is not Verdict.STARTED:
            self._queries.labels(verdict.value).inc()


class _MomentCollector(Collector):
    """Gauges that are read when somebody asks, so that nothing has to keep them up to date."""

    def __init__(self, moment: Callable[[], Moment], *, version: str, grade: str) -> None:
        self._moment = moment
        self._version = version
        self._grade = grade

    def describe(self) -> list[Metric]:
        """Names are not checked at registration: the server may not be up yet."""
        return []

    def collect(self) -> list[Metric]:
        """One look."""
        now = self._moment()
        built = GaugeMetricFamily(
            "sandboxd_build_info", "Version and grade of isolation.", labels=("version", "grade")
        )
        built.add_metric((self._version, self._grade), 1)
        replaced = CounterMetricFamily(
            "sandboxd_zygotes_replaced", "Zygotes replaced, by why.", labels=("reason",)
        )
        replaced.add_metric(("age",), now.aged_zygotes)
        replaced.add_metric(("died",), now.dead_zygotes)
        replaced.add_metric(("silent",), now.silent_zygotes)
        return [
            built,
            replaced,
            GaugeMetricFamily("sandboxd_pool_ready_guests", "Guests that wait.", now.ready_guests),
            GaugeMetricFamily("sandboxd_guests", "Guest processes, ready ones included.", now.live_guests),
            CounterMetricFamily(
                "sandboxd_history_set_aside", "Histories that could not be used.", now.histories_set_aside
            ),
            GaugeMetricFamily("sandboxd_sandboxes_active", "Live sandboxes.", now.active_sandboxes),
            GaugeMetricFamily(
                "sandboxd_executions_running", "Executions that run now.", now.running_executions
            ),
            GaugeMetricFamily(
                "sandboxd_executions_queued", "Executions that wait now.", now.queued_executions
            ),
        ]
