"""Executions of the host come back from the store as they were, and truthfully after a crash."""

from datetime import UTC, datetime

import pytest

from sandboxd.executions import records
from sandboxd.executions.model import (
    Execution,
    ExecutionKind,
    ExecutionRequest,
    ExecutionResult,
    ExecutionState,
    Failure,
    FailureKind,
    LimitName,
    LimitReceipt,
    Output,
    Usage,
)
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.store import StoreSettings, open_store

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _execution(number: int) -> Execution:
    return Execution(
        id=f"exe_{number}",
        owner="ada",
        user_id="1",
        sandbox_id="sbx_1",
        request=ExecutionRequest(code="print(1)", kind=ExecutionKind.QUICK_EXECUTE),
        create_time=NOW,
    )


async def test_a_finished_execution_comes_back_with_its_result(settings: StoreSettings) -> None:
    execution = _execution(1)
    result = ExecutionResult(
        state=ExecutionState.FAILED,
        failure=Failure(kind=FailureKind.OUT_OF_MEMORY, message="used: too much", type_name="MemoryError"),
        stdout=Output(data=b"\xff", total_bytes=1),
        usage=Usage(wall_seconds=0.5, queue_seconds=0.25),
        limit_receipt=LimitReceipt(
            limit=LimitName.MEMORY, limit_value=1, used_value=2, unit="bytes", message="m"
        ),
    )
    execution.number, execution.start_time, execution.end_time = 3, NOW, NOW
    async with open_store(settings) as store:
        await store.executions.begin(records.begun(execution, request_fingerprint=None))
        await store.executions.finish(execution.id, records.outcome(execution, result))
        found = records.from_record(await store.executions.get(owner="ada", execution_id=execution.id))
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=5)
    assert found.result == result
    assert (found.number, found.state, found.start_time) == (3, ExecutionState.FAILED, NOW)
    [listed] = [records.from_summary(summary) for summary in page.executions]
    assert listed.result
    assert listed.result.failure
    assert (listed.result.failure.kind, listed.result.failure.message) == (
        FailureKind.OUT_OF_MEMORY,
        "used: too much",
    )
    assert listed.result.limit_receipt == result.limit_receipt


@pytest.mark.parametrize(
    ("started", "kind"), [(False, FailureKind.NEVER_RAN), (True, FailureKind.OUTCOME_UNKNOWN)]
)
async def test_an_execution_cut_off_by_a_crash_is_listed_and_shown_truthfully(
    settings: StoreSettings, *, started: bool, kind: FailureKind
) -> None:
    execution = _execution(2)
    async with open_store(settings) as store:
        await store.executions.begin(records.begun(execution, request_fingerprint=None))
        if started:
            store.executions.started(execution.id, NOW)
    async with open_store(settings) as store:
        shown = records.from_record(await store.executions.get(owner="ada", execution_id=execution.id))
        page = await store.executions.list(ExecutionFilter(owner="ada"), page_size=5)
    [listed] = [records.from_summary(summary) for summary in page.executions]
    for found in (shown, listed):
        assert found.state is ExecutionState.ABORTED
        assert found.result
        assert found.result.failure
        assert found.result.failure.kind is kind


async def test_a_page_bounded_in_bytes_holds_at_least_one_execution(settings: StoreSettings) -> None:
    async with open_store(settings) as store:
        for number in range(3):
            await store.executions.begin(records.begun(_execution(number), request_fingerprint=None))
        found: list[str] = []
        token = ""
        while token or not found:
            page = await store.executions.list(
                ExecutionFilter(owner="ada"), page_size=5, page_token=token, most_bytes=1
            )
            assert len(page.executions) == 1
            found += [summary.id for summary in page.executions]
            token = page.next_page_token
    assert found == ["exe_2", "exe_1", "exe_0"]
