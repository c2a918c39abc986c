"""Figures of the history, and what is no longer kept of it, on both engines."""

from datetime import UTC, datetime, timedelta

import pytest

from sandboxd.errors import ExecutionNotFound
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.queries import QueryFilter
from sandboxd.store.records import ExecutionState, PhaseDurations, SandboxState
from sandboxd.store.retention import RetentionPolicy
from sandboxd.store.store import Store, StoreSettings, open_store
from tests.store.examples import KEEP_ALL, a_query, a_sandbox, an_execution, an_outcome, moment


async def _run(store: Store, count: int, **changes: object) -> list[str]:
    ids = []
    for number in range(count):
        record = an_execution(**changes)
        await store.executions.begin(record)
        phases = PhaseDurations(queue_us=1, start_us=2, run_us=number + 1, end_us=None)
        await store.executions.finish(record.id, an_outcome(phases=phases))
        ids.append(record.id)
    return ids


async def test_statistics_count_states_limits_phases_and_users(settings: StoreSettings) -> None:
    async with open_store(settings) as store:
        await store.sandboxes.create(a_sandbox())
        gone = a_sandbox()
        await store.sandboxes.create(gone)
        await store.sandboxes.end(gone.id, state=SandboxState.DELETED, end_time=moment(1))
        await _run(store, 100)
        late = an_execution()
        await store.executions.begin(late)
        await store.executions.finish(
            late.id, an_outcome(state=ExecutionState.TIMED_OUT, limit_name="MEMORY", phases=PhaseDurations())
        )
        await _run(store, 1, user_id="2")
        await store.executions.begin(an_execution(state=ExecutionState.QUEUED))
        await _run(store, 3, owner="bob")
        await store.queries.record(a_query())
        ada = await store.statistics(ExecutionFilter(owner="ada"))
        second = await store.statistics(ExecutionFilter(owner="ada", user_id="2"))
        everyone = await store.statistics(ExecutionFilter(owner=None))
        nobody = await store.statistics(ExecutionFilter(owner="eve"))
    assert (ada.active_sandboxes, ada.created_sandboxes, ada.queries) == (1, 2, 1)
    assert ada.executions_by_state == {
        ExecutionState.SUCCEEDED: 101,
        ExecutionState.TIMED_OUT: 1,
        ExecutionState.QUEUED: 1,
    }
    assert ada.executions_by_limit == {"MEMORY": 1}
    assert ada.success_rate == pytest.approx(101 / 102)
    assert ada.average_execution_seconds == pytest.approx((5050 + 1) / 101 / 1e6)
    run = ada.phases["run"]
    assert (run.count, run.p50_us, run.p90_us, run.p99_us, run.maximum_us) == (101, 50, 90, 99, 100)
    assert "end" not in ada.phases
    assert second.finished_executions == 1
    assert everyone.finished_executions == 105
    assert nobody.success_rate is None
    assert nobody.average_execution_seconds is None


async def test_old_history_goes_and_living_history_stays(settings: StoreSettings) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=40)
    async with open_store(settings) as store:
        [ancient] = await _run(store, 1, create_time=old)
        [recent] = await _run(store, 1, create_time=now)
        living = an_execution(create_time=old)
        await store.executions.begin(living)
        await store.queries.record(a_query(time=old))
        deleted = await store.prune(RetentionPolicy())
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=10)
        entries = await store.queries.list(QueryFilter(owner="ada"), page_size=10)
    assert (deleted.executions, deleted.queries) == (1, 1)
    assert {e.id for e in page.executions} == {recent, living.id}
    assert ancient not in {e.id for e in page.executions}
    assert entries.queries == []


async def test_a_user_over_its_share_loses_its_oldest_history_only(settings: StoreSettings) -> None:
    async with open_store(settings) as store:
        mine = await _run(store, 10)
        theirs = await _run(store, 3, user_id="2")
        by_rows = RetentionPolicy(max_age=None, executions_per_user=4, bytes_per_user=None)
        await store.prune(by_rows)
        left = await store.executions.list(ExecutionFilter(owner="ada"), page_size=50)
        size = left.executions[0].stored_bytes
        assert store.stored_bytes(owner="ada", user_id="1") == 4 * size
        await store.prune(RetentionPolicy(max_age=None, executions_per_user=None, bytes_per_user=2 * size))
        fewer = await store.executions.list(ExecutionFilter(owner="ada"), page_size=50)
    assert [e.id for e in left.executions] == theirs[::-1] + mine[:5:-1]
    assert [e.id for e in fewer.executions] == theirs[:0:-1] + mine[:7:-1]


async def test_a_deleted_user_leaves_nothing_in_database_or_journal(settings: StoreSettings) -> None:
    async with open_store(settings) as store:
        [mine] = await _run(store, 1, user_id="1", code="secret_of_one = 1")
        [other] = await _run(store, 1, user_id="2")
        await store.flush()
        journal = settings.directory / "journal"
        assert any(b"secret_of_one" in path.read_bytes() for path in journal.iterdir())
        await store.delete_user(owner="ada", user_id="1")
        with pytest.raises(ExecutionNotFound):
            await store.executions.get(owner="ada", execution_id=mine)
        await store.executions.get(owner="ada", execution_id=other)
        assert not any(b"secret_of_one" in path.read_bytes() for path in journal.iterdir())
        assert store.stored_bytes(owner="ada", user_id="1") == 0


async def test_stored_bytes_are_known_after_a_restart(settings: StoreSettings) -> None:
    async with open_store(settings) as store:
        await _run(store, 3)
        before = store.stored_bytes(owner="ada", user_id="1")
    async with open_store(settings) as store:
        await store.prune(KEEP_ALL)
        after = store.stored_bytes(owner="ada", user_id="1")
    assert before == after == 3 * (len("print(1 + 1)") + an_outcome().stored_bytes)
