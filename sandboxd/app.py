"""The composition root: builds every object once, starts them in order, stops them in reverse."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from sandboxd import memory
from sandboxd.accounts.authentication import Authentication
from sandboxd.accounts.certificates import SubjectMapping, SubjectTable
from sandboxd.accounts.fair_queue import FairQueue
from sandboxd.accounts.principals import Role
from sandboxd.accounts.quotas import QuotaLedger
from sandboxd.accounts.tokens import TokenBook, ensure_first_token
from sandboxd.database.audit import AuditLog
from sandboxd.database.errors import DatabaseRoleUnsafe, QueryError
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.guest_calls import GuestCalls
from sandboxd.database.sample import build_sqlite
from sandboxd.database.store_audit import StoreAudit
from sandboxd.early import EarlyStart, early_start
from sandboxd.executions.admission import Admission
from sandboxd.executions.history import ExecutionHistory
from sandboxd.executions.service import Executions
from sandboxd.metrics.counted_audit import CountedAudit
from sandboxd.metrics.endpoint import metrics_endpoint
from sandboxd.metrics.figures import Figures, Moment
from sandboxd.observers import Observers, open_tracing
from sandboxd.rpc.authentication import CallAuthenticator
from sandboxd.rpc.checkpoints import CheckpointCalls
from sandboxd.rpc.databases import DatabaseServicer
from sandboxd.rpc.executions import ExecutionServicer
from sandboxd.rpc.interceptor import CallInterceptor
from sandboxd.rpc.sandbox_requests import Defaults
from sandboxd.rpc.sandboxes import SandboxServicer
from sandboxd.rpc.server import BoundAddresses, RpcServer, Servicers
from sandboxd.rpc.statistics import StatisticsSource
from sandboxd.sandboxes.branching import Branching
from sandboxd.sandboxes.registry import SandboxRegistry
from sandboxd.settings import Settings
from sandboxd.store.store import Store, open_store
from sandboxd.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_log = structlog.get_logger(__name__)

_HEALTH_TICK_SECONDS = 0.5
_DATABASE_SECONDS = 3.0
"""How long the start waits for a database; each new connection looks at its role again."""


@asynccontextmanager
async def running_server(
    settings: Settings,
    *,
    early: EarlyStart | None = None,
    fault_step: str = "",
    span_exporter: "SpanExporter | None" = None,
) -> AsyncIterator[BoundAddresses]:
    """A server that serves until the block ends; then it drains and leaves nothing behind.

    It goes on from `early`, where that was begun. `fault_step` makes a set-up step of every guest fail, and
    `span_exporter` takes spans in place of a collector; only tests ask for these.
    """
    async with AsyncExitStack() as stack:
        if early is None:
            early = await stack.enter_async_context(early_start(settings, fault_step=fault_step))
        supervisor = early.supervisor
        tracing = open_tracing(settings, stack, exporter=span_exporter)
        authenticator = _authenticator(settings)
        store = await stack.enter_async_context(open_store(settings.store_settings))
        ledger = QuotaLedger(
            default=settings.user_quotas,
            stored_bytes=lambda user: store.stored_bytes(owner=user.owner, user_id=user.user_id),
        )
        registry = SandboxRegistry(
            supervisor=supervisor, store=store.sandboxes, ledger=ledger, max_sandboxes=settings.max_sandboxes
        )
        stack.push_async_callback(registry.close)
        registry.start()
        history = ExecutionHistory(store.executions)
        admission = Admission(
            queue=FairQueue(
                slots=settings.max_parallel_executions,
                max_queued=settings.max_queued_executions,
                max_queued_per_owner=settings.quotas.queued_executions,
                max_running_per_owner=settings.quotas.parallel_executions,
            ),
            ledger=ledger,
            max_queued=settings.max_queued_executions,
            max_queued_per_sandbox=settings.max_queued_per_sandbox,
        )
        numbers, figures = _figures(supervisor, registry, admission, store)
        observers = Observers(figures, tracing)
        audit = CountedAudit(StoreAudit(store.queries), on_recorded=figures.query_recorded)
        gateway = await stack.enter_async_context(_database_gateway(settings, audit))
        statistics = StatisticsSource(
            store=store,
            registry=registry,
            admission=admission,
            ready_guests=lambda: supervisor.status().ready_guests,
        )
        executions = Executions(
            admission=admission,
            history=history,
            calls=lambda sandbox, execution: GuestCalls(gateway, sandbox=sandbox, execution_id=execution.id),
            on_finished=observers.execution_finished,
        )
        await early.started
        interceptor = CallInterceptor(
            authenticator, on_refused=observers.call_refused, around=observers.around_call
        )
        servicers = _servicers(
            settings, supervisor, registry, executions, history, statistics, gateway, audit
        )
        server = RpcServer(settings=settings, servicers=servicers, interceptor=interceptor)
        addresses = replace(
            await server.start(), metrics=await stack.enter_async_context(_metrics(settings, numbers))
        )
        _log.info("server.started", **asdict(addresses), grade=supervisor.grade.value)
        health = asyncio.create_task(_follow_health(server, supervisor))
        try:
            yield addresses
        finally:
            health.cancel()
            await asyncio.wait([health])
            await _drain(server, executions, grace_seconds=settings.drain_grace.total_seconds())


async def _drain(server: RpcServer, executions: Executions, *, grace_seconds: float) -> None:
    """Refuses what comes and what waits; what runs may end within the grace."""
    await server.serving(False)
    stopping = asyncio.create_task(server.stop(grace_seconds=grace_seconds + 1))
    await executions.close(grace_seconds=grace_seconds)
    await stopping
    _log.info("server.stopped")


def _figures(
    supervisor: Supervisor, registry: SandboxRegistry, admission: Admission, store: Store
) -> tuple[CollectorRegistry, Figures]:
    def moment() -> Moment:
        status = supervisor.status()
        return Moment(
            ready_guests=status.ready_guests,
            live_guests=status.live_guests,
            active_sandboxes=len(registry.all_of(owner=None)),
            running_executions=admission.running_count,
            queued_executions=admission.queued_count,
            aged_zygotes=status.aged_zygotes,
            dead_zygotes=status.dead_zygotes,
            silent_zygotes=status.silent_zygotes,
            histories_set_aside=len(store.set_aside),
        )

    numbers = CollectorRegistry()
    grade = supervisor.grade.value
    return numbers, Figures(registry=numbers, moment=moment, version=version("sandboxd"), grade=grade)


@asynccontextmanager
async def _metrics(settings: Settings, numbers: CollectorRegistry) -> AsyncIterator[str]:
    """The metrics port, where one is set; gives its address or an empty text."""
    if settings.metrics_port is None:
        yield ""
        return
    async with metrics_endpoint(numbers, host=settings.metrics_host, port=settings.metrics_port) as address:
        yield address


def _authenticator(settings: Settings) -> CallAuthenticator:
    """Tokens of the token book, the first of them made at the first start, and mapped certificates."""
    if ensure_first_token(settings.token_book_path, settings.token_path):
        _log.info("token.made", file=str(settings.token_path))
    subjects = SubjectTable(
        SubjectMapping(subject=item.subject, principal=item.principal, role=Role(item.role))
        for item in (settings.tls.subjects if settings.tls else ())
    )
    authentication = Authentication(tokens=TokenBook(settings.token_book_path), subjects=subjects)
    return CallAuthenticator(authentication)


@asynccontextmanager
async def _database_gateway(settings: Settings, audit: AuditLog) -> AsyncIterator[DatabaseGateway]:
    """The gateway, after every database was looked at: one whose role is unsafe stops the start."""
    if settings.builds_sample and not settings.sample_path.exists():
        settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        await asyncio.to_thread(build_sqlite, settings.sample_path)
    gateway = DatabaseGateway(
        settings.database_settings, audit=audit, max_workers=settings.max_database_workers
    )
    async with gateway:
        for name in gateway.databases:
            try:
                async with asyncio.timeout(_DATABASE_SECONDS):
                    version, warnings = await gateway.check(name)
            except DatabaseRoleUnsafe:
                raise
            except TimeoutError:
                _log.warning("database.unavailable", database=name, problem="it does not answer")
            except QueryError as error:
                _log.warning("database.unavailable", database=name, problem=error.problem)
            else:
                _log.info("database.ready", database=name, engine=version, warnings=warnings)
        yield gateway


def _servicers(
    settings: Settings,
    supervisor: Supervisor,
    registry: SandboxRegistry,
    executions: Executions,
    history: ExecutionHistory,
    statistics: StatisticsSource,
    gateway: DatabaseGateway,
    audit: AuditLog,
) -> Servicers:
    defaults = Defaults(
        limits=settings.default_limits,
        maximum=settings.highest_limits,
        allowed_modules=settings.allowed_modules,
        databases=frozenset(gateway.databases),
        default_database=settings.default_database,
        writable={name: frozenset(database.writable) for name, database in gateway.databases.items()},
    )
    return Servicers(
        sandboxes=SandboxServicer(
            registry=registry,
            supervisor=supervisor,
            defaults=defaults,
            checkpoints=CheckpointCalls(
                branching=Branching(registry=registry, supervisor=supervisor),
                supervisor=supervisor,
                defaults=defaults,
            ),
            statistics=statistics,
        ),
        executions=ExecutionServicer(
            executions=executions, history=history, registry=registry, defaults=defaults
        ),
        databases=DatabaseServicer(gateway=gateway, registry=registry, audit=audit),
    )


async def _follow_health(server: RpcServer, supervisor: Supervisor) -> None:
    """Health says NOT_SERVING while no guest can be made."""
    serving = True
    while True:
        await asyncio.sleep(_HEALTH_TICK_SECONDS)
        if supervisor.status().zygote_alive != serving:
            serving = not serving
            await server.serving(serving)


async def run_server(
    settings: Settings, *, early: EarlyStart, started: Callable[[BoundAddresses], None] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT; a second one ends the drain at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            _log.warning("server.drain_cut_short")
            os._exit(1)  # the kernel ends every guest with us
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with running_server(settings, early=early) as addresses:
        memory.set_imports_apart()
        if started:
            started(addresses)
        await stop.wait()
        _log.info("server.draining")
