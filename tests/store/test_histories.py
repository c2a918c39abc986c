"""What goes into the store comes out of it, for its owner and nobody else, on both engines."""

from dataclasses import replace

import pytest

from sandboxd.errors import ExecutionNotFound, RequestIdReused, SandboxNotFound
from sandboxd.store.errors import InvalidPageToken
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.queries import QueryFilter
from sandboxd.store.records import (
    Begun,
    Duplicate,
    ExecutionState,
    QueryVerdict,
    SandboxState,
)
from sandboxd.store.sandboxes import SandboxFilter
from sandboxd.store.store import StoreSettings, open_store
from tests.store.examples import a_query, a_sandbox, an_execution, an_outcome, moment


async def test_a_finished_execution_comes_back_whole(settings: StoreSettings) -> None:
    record = an_execution(code="x = '\0 \u20ac'", trace_parent="00-abc")
    outcome = an_outcome()
    async with open_store(settings) as store:
        assert await store.executions.begin(record) == Begun()
        await store.executions.finish(record.id, outcome)
        found = await store.executions.get(owner="ada", execution_id=record.id)
    assert found == replace(
        record, state=ExecutionState.SUCCEEDED, outcome=outcome, start_time=outcome.start_time
    )


async def test_an_outcome_after_a_flush_joins_its_beginning(settings: StoreSettings) -> None:
    record = an_execution(state=ExecutionState.QUEUED)
    async with open_store(settings) as store:
        await store.executions.begin(record)
        await store.flush()
        store.executions.started(record.id, moment(5))
        await store.flush()
        running = await store.executions.get(owner="ada", execution_id=record.id)
        await store.executions.finish(record.id, an_outcome())
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=10)
    assert running.state is ExecutionState.RUNNING
    assert [e.state for e in page.executions] == [ExecutionState.SUCCEEDED]
    assert page.executions[0].stored_bytes == len(record.code) + an_outcome().stored_bytes


async def test_a_foreign_execution_looks_missing(settings: StoreSettings) -> None:
    async with open_store(settings) as store:
        record = an_execution()
        await store.executions.begin(record)
        with pytest.raises(ExecutionNotFound) as foreign:
            await store.executions.get(owner="eve", execution_id=record.id)
        with pytest.raises(ExecutionNotFound) as missing:
            await store.executions.get(owner="eve", execution_id="exe_none")
        everyone = await store.executions.get(owner=None, execution_id=record.id)
    assert str(foreign.value).replace(record.id, "") == str(missing.value).replace("exe_none", "")
    assert everyone.id == record.id


async def test_a_retried_request_gives_the_first_execution(settings: StoreSettings) -> None:
    first = an_execution(request_id="r1", request_fingerprint=b"f")
    async with open_store(settings) as store:
        await store.executions.begin(first)
        joined = await store.executions.begin(an_execution(request_id="r1", request_fingerprint=b"f"))
        await store.executions.finish(first.id, an_outcome())
        done = await store.executions.begin(an_execution(request_id="r1", request_fingerprint=b"f"))
        other_owner = await store.executions.begin(
            an_execution(owner="bob", request_id="r1", request_fingerprint=b"f")
        )
        with pytest.raises(RequestIdReused):
            await store.executions.begin(an_execution(request_id="r1", request_fingerprint=b"other"))
    assert isinstance(joined, Duplicate)
    assert (joined.record.id, joined.record.state) == (first.id, ExecutionState.RUNNING)
    assert isinstance(done, Duplicate)
    assert (done.record.id, done.record.outcome) == (first.id, an_outcome())
    assert other_owner == Begun()


async def test_a_retried_request_is_known_after_a_restart(settings: StoreSettings) -> None:
    record = an_execution(request_id="r1", request_fingerprint=b"f")
    async with open_store(settings) as store:
        await store.executions.begin(record)
        await store.executions.finish(record.id, an_outcome())
    async with open_store(settings) as store:
        again = await store.executions.begin(an_execution(request_id="r1", request_fingerprint=b"f"))
    assert isinstance(again, Duplicate)
    assert again.record.outcome == an_outcome()


async def test_a_withdrawn_execution_frees_its_request_id(settings: StoreSettings) -> None:
    async with open_store(settings) as store:
        first = an_execution(request_id="r1", request_fingerprint=b"f")
        await store.executions.begin(first)
        await store.flush()
        await store.executions.withdraw(first.id)
        again = await store.executions.begin(an_execution(request_id="r1", request_fingerprint=b"f"))
        with pytest.raises(ExecutionNotFound):
            await store.executions.get(owner="ada", execution_id=first.id)
    assert again == Begun()


async def test_what_ran_at_the_end_of_the_server_is_aborted_truthfully(settings: StoreSettings) -> None:
    queued, running = (an_execution(state=ExecutionState.QUEUED) for _ in range(2))
    sandbox = a_sandbox()
    async with open_store(settings) as store:
        await store.sandboxes.create(sandbox)
        await store.executions.begin(queued)
        await store.executions.begin(running)
        store.executions.started(running.id, moment(5))
    async with open_store(settings) as store:
        never = await store.executions.get(owner="ada", execution_id=queued.id)
        unknown = await store.executions.get(owner="ada", execution_id=running.id)
        lost = await store.sandboxes.get(owner="ada", sandbox_id=sandbox.id)
    assert never.state is unknown.state is ExecutionState.ABORTED
    assert never.outcome
    assert unknown.outcome
    assert (never.outcome.failure_kind, unknown.outcome.failure_kind) == ("NEVER_RAN", "OUTCOME_UNKNOWN")
    assert (never.start_time, unknown.start_time) == (None, moment(5))
    assert lost.state is SandboxState.ABORTED


async def test_lists_are_filtered_and_paged_newest_first(settings: StoreSettings) -> None:
    records = [an_execution(sandbox_id=f"sbx_{i % 2}", user_id=str(i % 3)) for i in range(12)]
    async with open_store(settings) as store:
        for record in records:
            await store.executions.begin(record)
        await store.executions.finish(records[0].id, an_outcome(state=ExecutionState.FAILED))
        seen: list[str] = []
        token = ""
        wanted = ExecutionFilter(owner="ada", sandbox_id="sbx_0")
        while True:
            page = await store.executions.list(wanted, page_size=4, page_token=token)
            seen += [e.id for e in page.executions]
            token = page.next_page_token
            if not token:
                break
        failed = await store.executions.list(
            ExecutionFilter(owner="ada", states=(ExecutionState.FAILED,)), page_size=5
        )
        span = await store.executions.list(
            ExecutionFilter(
                owner=None, created_from=records[3].create_time, created_before=records[6].create_time
            ),
            page_size=50,
        )
        user = await store.executions.list(ExecutionFilter(owner="ada", user_id="2"), page_size=50)
        nobody = await store.executions.list(ExecutionFilter(owner="eve"), page_size=50)
    assert seen == [r.id for r in reversed(records) if r.sandbox_id == "sbx_0"]
    assert [e.id for e in failed.executions] == [records[0].id]
    assert [e.id for e in span.executions] == [r.id for r in reversed(records[3:6])]
    assert {e.user_id for e in user.executions} == {"2"}
    assert nobody.executions == []


@pytest.mark.parametrize("token", ["x", "!!", "AAAA", "é", "A" * 2000, "AA=="])
async def test_a_made_up_page_token_is_refused(sqlite_settings: StoreSettings, token: str) -> None:
    async with open_store(sqlite_settings) as store:
        with pytest.raises(InvalidPageToken):
            await store.executions.list(ExecutionFilter(owner="ada"), page_size=1, page_token=token)


async def test_a_page_token_is_good_for_its_owner_and_filter_only(sqlite_settings: StoreSettings) -> None:
    async with open_store(sqlite_settings) as store:
        for _ in range(3):
            await store.executions.begin(an_execution())
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=1)
    async with open_store(sqlite_settings) as store:
        token = page.next_page_token
        again = await store.executions.list(ExecutionFilter(owner="ada"), page_size=1, page_token=token)
        assert len(again.executions) == 1
        for other in (ExecutionFilter(owner="eve"), ExecutionFilter(owner="ada", user_id="1")):
            with pytest.raises(InvalidPageToken):
                await store.executions.list(other, page_size=1, page_token=token)


async def test_sandboxes_are_kept_and_listed(settings: StoreSettings) -> None:
    kept, deleted = a_sandbox(), a_sandbox(request_id="r", request_fingerprint=b"f")
    async with open_store(settings) as store:
        await store.sandboxes.create(kept)
        await store.sandboxes.create(deleted)
        await store.flush()
        store.sandboxes.renew(kept.id, moment(5000))
        await store.sandboxes.end(deleted.id, state=SandboxState.DELETED, end_time=moment(9), reason="asked")
        await store.sandboxes.end(deleted.id, state=SandboxState.EXPIRED, end_time=moment(10))
        again = await store.sandboxes.create(replace(deleted, id="sbx_other"))
        active = await store.sandboxes.list(
            SandboxFilter(owner="ada", states=(SandboxState.ACTIVE,)), page_size=5
        )
        found = await store.sandboxes.get(owner="ada", sandbox_id=deleted.id)
        with pytest.raises(SandboxNotFound):
            await store.sandboxes.get(owner="eve", sandbox_id=deleted.id)
    assert active.sandboxes == [replace(kept, expire_time=moment(5000))]
    assert found == replace(deleted, state=SandboxState.DELETED, end_time=moment(9), end_reason="asked")
    assert isinstance(again, Duplicate)
    assert again.record.id == deleted.id


async def test_a_query_entry_is_completed_and_found(settings: StoreSettings) -> None:
    pending = a_query(verdict=QueryVerdict.STARTED, sql="UPDATE d SET a = '\0'", line=3)
    done = replace(pending, verdict=QueryVerdict.COMPLETED, affected=2, layer="grant", reason="ok")
    refused = a_query(verdict=QueryVerdict.REFUSED, sql="DROP TABLE users")
    async with open_store(settings) as store:
        await store.queries.record(pending)
        await store.flush()
        await store.queries.record(done)
        await store.queries.record(refused)
        page = await store.queries.list(QueryFilter(owner="ada"), page_size=5)
        only = await store.queries.list(
            QueryFilter(owner="ada", verdicts=(QueryVerdict.REFUSED,)), page_size=5
        )
        foreign = await store.queries.list(QueryFilter(owner="eve"), page_size=5)
    assert page.queries == [refused, done]
    assert only.queries == [refused]
    assert foreign.queries == []
