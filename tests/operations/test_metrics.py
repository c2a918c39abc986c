"""The metrics port: what it counts, who can reach it, and what an execution pays for it."""

import asyncio
import socket
import time
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sandboxd_client import Client, SandboxNotFound

from sandboxd.database.audit import Verdict
from sandboxd.executions.model import (
    Execution,
    ExecutionRequest,
    ExecutionResult,
    ExecutionState,
    Failure,
    FailureKind,
    LimitName,
    LimitReceipt,
    Usage,
)
from sandboxd.metrics.endpoint import metrics_endpoint
from sandboxd.metrics.figures import Figures, Moment
from sandboxd.settings import SettingsError, is_loopback, load_settings
from tests.support.server_process import Server

_MOMENT = Moment(
    ready_guests=8,
    live_guests=11,
    active_sandboxes=3,
    running_executions=2,
    queued_executions=1,
    aged_zygotes=4,
    dead_zygotes=1,
    silent_zygotes=2,
    histories_set_aside=1,
)


def _ask(address: str, request: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def _figures(address: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = _ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    header, _, body = answer.partition(b"\r\n\r\n")
    assert header.startswith(b"HTTP/1.1 200 OK")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def _in_registry(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def _figures_of(registry: CollectorRegistry) -> Figures:
    return Figures(registry=registry, moment=lambda: _MOMENT, version="1", grade="FULL")


def _ended(*, receipt: LimitReceipt | None = None, kind: FailureKind | None = None) -> Execution:
    state = ExecutionState.SUCCEEDED if kind is None else ExecutionState.FAILED
    usage = Usage(wall_seconds=0.2, queue_seconds=0.1, start_seconds=0.001, end_seconds=0.0001)
    now = datetime.now(UTC)
    execution = Execution(
        id="e",
        owner="o",
        user_id="u",
        sandbox_id="s",
        request=ExecutionRequest(code="secret"),
        create_time=now,
        start_time=now,
    )
    failure = Failure(kind=kind) if kind else None
    execution.result = ExecutionResult(state=state, usage=usage, failure=failure, limit_receipt=receipt)
    return execution


def test_an_execution_ended_by_a_limit_is_counted_by_outcome_limit_and_phase() -> None:
    registry = CollectorRegistry()
    figures = _figures_of(registry)
    receipt = LimitReceipt(limit=LimitName.MEMORY, limit_value=1, used_value=2, unit="bytes", message="m")
    figures.execution_finished(_ended(receipt=receipt, kind=FailureKind.OUT_OF_MEMORY))
    figures.execution_finished(_ended())
    total = "sandboxd_executions_total"
    assert _in_registry(registry, total, state="FAILED", failure="OUT_OF_MEMORY") == 1
    assert _in_registry(registry, total, state="SUCCEEDED", failure="") == 1
    assert _in_registry(registry, "sandboxd_limits_hit_total", limit="MEMORY") == 1
    bucket = "sandboxd_execution_phase_seconds_bucket"
    assert _in_registry(registry, bucket, phase="run", le="0.25") == 2
    assert _in_registry(registry, bucket, phase="run", le="0.1") == 0
    for phase in ("queue", "start", "run", "end"):
        assert _in_registry(registry, "sandboxd_execution_phase_seconds_count", phase=phase) == 2


def test_an_execution_that_never_ran_has_no_phases() -> None:
    registry = CollectorRegistry()
    figures = _figures_of(registry)
    execution = _ended(kind=FailureKind.NEVER_RAN)
    execution.start_time = None
    figures.execution_finished(execution)
    assert _in_registry(registry, "sandboxd_execution_phase_seconds_count", phase="run") == 0


def test_a_query_is_counted_once_though_it_is_recorded_before_and_after_its_commit() -> None:
    registry = CollectorRegistry()
    figures = _figures_of(registry)
    for verdict in (Verdict.STARTED, Verdict.COMPLETED, Verdict.REFUSED):
        figures.query_recorded(verdict)
    assert _in_registry(registry, "sandboxd_queries_total", verdict="COMPLETED") == 1
    assert _in_registry(registry, "sandboxd_queries_total", verdict="REFUSED") == 1
    assert _in_registry(registry, "sandboxd_queries_total", verdict="STARTED") is None


def test_what_the_server_holds_is_looked_up_when_asked() -> None:
    registry = CollectorRegistry()
    _figures_of(registry)
    assert _in_registry(registry, "sandboxd_pool_ready_guests") == 8
    assert _in_registry(registry, "sandboxd_sandboxes_active") == 3
    assert _in_registry(registry, "sandboxd_executions_queued") == 1
    assert _in_registry(registry, "sandboxd_zygotes_replaced_total", reason="died") == 1
    assert _in_registry(registry, "sandboxd_zygotes_replaced_total", reason="silent") == 2


def test_counting_an_execution_takes_less_than_20_microseconds() -> None:
    figures = _figures_of(CollectorRegistry())
    execution = _ended()
    best = min(_time_of(figures, execution, rounds=200) for _ in range(20))
    assert best < 20e-6, f"{best * 1e6:.1f} us"


def _time_of(figures: Figures, execution: Execution, *, rounds: int) -> float:
    started = time.perf_counter()
    for _ in range(rounds):
        figures.execution_finished(execution)
    return (time.perf_counter() - started) / rounds


async def test_a_server_under_use_shows_what_happened(watched: Server) -> None:
    before = await asyncio.to_thread(_figures, watched.metrics)
    async with Client.connect(watched.tcp, token=watched.token) as client:
        result = await client.quick_execute("6 * 7")
        assert result.result == 42
        failed = await client.quick_execute("1 / 0")
        assert not failed.completed
        with pytest.raises(SandboxNotFound):
            await client.get_sandbox("none")
        async with client.create_sandbox() as sandbox:
            await sandbox.query("SELECT 1")
            during = await asyncio.to_thread(_figures, watched.metrics)
    after = await asyncio.to_thread(_figures, watched.metrics)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    assert grown("sandboxd_executions_total", state="SUCCEEDED", failure="") == 1
    assert grown("sandboxd_executions_total", state="FAILED", failure="EXCEPTION") == 1
    assert grown("sandboxd_execution_phase_seconds_count", phase="start") == 2
    assert grown("sandboxd_calls_refused_total", reason="SANDBOX_NOT_FOUND") == 1
    assert grown("sandboxd_queries_total", verdict="COMPLETED") == 1
    assert during["sandboxd_sandboxes_active", ()] == before["sandboxd_sandboxes_active", ()] + 1
    assert after["sandboxd_guests", ()] >= 1


def test_only_the_figures_are_served(watched: Server) -> None:
    assert _ask(watched.metrics, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404")
    assert _ask(watched.metrics, b"POST /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405")
    assert _ask(watched.metrics, b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n") == b""


async def test_a_reader_that_says_nothing_does_not_hold_up_the_end() -> None:
    registry = CollectorRegistry()
    async with metrics_endpoint(registry, host="127.0.0.1", port=0) as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metr")
        await writer.drain()
        await asyncio.to_thread(_ask, address, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert await asyncio.wait_for(_until_closed(reader), timeout=3) == b""
    writer.close()


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_a_taken_port_is_a_setting_that_is_named() -> None:
    async with metrics_endpoint(CollectorRegistry(), host="127.0.0.1", port=0) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(SettingsError, match="metrics_port"):
            async with metrics_endpoint(CollectorRegistry(), host="127.0.0.1", port=port):
                pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "127.0.0.1.example.org", "example.org"])
def test_an_address_that_others_reach_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="metrics_host"):
        load_settings(environment={}, metrics_port=0, metrics_host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_an_address_of_this_machine_alone_is_loopback(host: str) -> None:
    assert is_loopback(host)
