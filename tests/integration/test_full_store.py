"""The history is full at the worst moment, after an execution was let in and before its code runs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from sandboxd.accounts.fair_queue import FairQueue
from sandboxd.accounts.quotas import QuotaLedger, Quotas
from sandboxd.channel.messages import Call, CallReply
from sandboxd.executions.admission import Admission
from sandboxd.executions.history import ExecutionHistory
from sandboxd.executions.live import LiveExecution
from sandboxd.executions.model import ExecutionRequest, ExecutionState, FailureKind
from sandboxd.executions.service import Executions
from sandboxd.limits import DEFAULT_LIMITS
from sandboxd.policy import LanguagePolicy
from sandboxd.sandboxes.model import SandboxSpec
from sandboxd.sandboxes.registry import SandboxRegistry
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.store.errors import StoreFull
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.records import ExecutionState as StoredState
from sandboxd.store.store import Store, StoreSettings, open_store
from sandboxd.supervisor.probing import probe_host
from sandboxd.supervisor.supervisor import Supervisor

_OWNER = "ada"


@dataclass
class _Service:
    """What runs executions, with its store."""

    store: Store
    sandbox: Sandbox
    executions: Executions

    async def run(self, code: str, *, request_id: str = "") -> LiveExecution:
        live = await self.executions.start(self.sandbox, ExecutionRequest(code=code, request_id=request_id))
        await live.wait()
        return live

    async def states(self) -> list[StoredState]:
        page = await self.store.executions.list(ExecutionFilter(owner=_OWNER), page_size=100)
        return [item.state for item in page.executions]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[_Service]:
    isolation = await asyncio.to_thread(probe_host)
    supervisor = Supervisor(
        isolation=isolation, default_limits=DEFAULT_LIMITS, pool_size=0, zygote_max_age=timedelta(hours=1)
    )
    ledger = QuotaLedger(default=Quotas(), stored_bytes=lambda _user: 0)
    async with open_store(StoreSettings(directory=tmp_path)) as store:
        await supervisor.start()
        registry = SandboxRegistry(
            supervisor=supervisor, store=store.sandboxes, ledger=ledger, max_sandboxes=10
        )
        queue = FairQueue(slots=4, max_queued=10)
        admission = Admission(queue=queue, ledger=ledger, max_queued=10, max_queued_per_sandbox=10)
        spec = SandboxSpec(limits=DEFAULT_LIMITS, policy=LanguagePolicy())
        sandbox = await registry.create_unrecorded(owner=_OWNER, user_id=_OWNER, spec=spec)
        history = ExecutionHistory(store.executions)
        executions = Executions(admission=admission, history=history, calls=lambda *_: _no_calls)
        try:
            yield _Service(store=store, sandbox=sandbox, executions=executions)
        finally:
            await executions.close(grace_seconds=1)
            await registry.close()
            await supervisor.close()


async def _no_calls(call: Call) -> CallReply:
    raise AssertionError(f"no call was expected: {call}")


def _full(_execution_id: str, _start_time: datetime) -> NoReturn:
    raise StoreFull


async def test_run_whose_start_cannot_be_recorded_is_refused_and_runs_nothing(
    service: _Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await service.run("ran = 0")).execution.state is ExecutionState.SUCCEEDED
    with monkeypatch.context() as full:
        full.setattr(service.store.executions, "started", _full)
        refused = await service.run("ran += 1", request_id="one")
    assert isinstance(refused.refused, StoreFull)  # the call ends with RESOURCE_EXHAUSTED
    assert refused.execution.state is ExecutionState.ABORTED
    result = refused.execution.result
    assert result is not None
    assert result.failure is not None
    assert result.failure.kind is FailureKind.NEVER_RAN
    assert service.sandbox.running_execution_id == ""
    # Withdrawn: it is not in the history, and the same request may run once there is room.
    assert await service.states() == [StoredState.SUCCEEDED]
    again = await service.run("ran += 1", request_id="one")
    assert again.refused is None
    assert again.execution.state is ExecutionState.SUCCEEDED
    after = await service.run("assert ran == 1")
    assert after.execution.state is ExecutionState.SUCCEEDED
    assert await service.states() == [StoredState.SUCCEEDED] * 3
