"""What stays in memory of executions: bounded for each owner and in all, a running one always."""

import itertools
from datetime import UTC, datetime

import pytest

from sandboxd.executions.events import EventLog
from sandboxd.executions.live import LiveExecution
from sandboxd.executions.model import Execution, ExecutionKind, ExecutionRequest
from sandboxd.executions.recent import RecentExecutions

_NUMBERS = itertools.count(1)


def _live(owner: str, *, output: int = 0, done: bool = True) -> LiveExecution:
    execution = Execution(
        id=f"exe_{next(_NUMBERS)}",
        owner=owner,
        user_id=owner,
        sandbox_id="sbx_1",
        request=ExecutionRequest(code="", kind=ExecutionKind.EXECUTE),
        create_time=datetime.now(UTC),
    )
    live = LiveExecution(execution, events=EventLog(budget_bytes=1 << 30))
    live.events.add_output("stdout", bytes(output))
    if done:
        live.finish()
    return live


@pytest.fixture
def recent() -> RecentExecutions:
    return RecentExecutions(most_of_owner=3, bytes_of_owner=10_000, bytes_in_all=20_000)


async def test_owner_with_more_than_its_number_loses_the_oldest(recent: RecentExecutions) -> None:
    made = [_live("ada") for _ in range(4)]
    gone = [recent.add(live) for live in made]
    assert gone == [[], [], [], [made[0]]]
    assert list(recent) == made[1:]


async def test_output_counts_and_the_latest_stays_however_large(recent: RecentExecutions) -> None:
    small, large = _live("ada"), _live("ada", output=15_000)
    recent.add(small)
    assert recent.add(large) == [small]
    assert recent.get(large.execution.id, owner="ada") is large


async def test_output_that_comes_later_is_counted_at_the_end(recent: RecentExecutions) -> None:
    first, second = _live("ada"), _live("ada", done=False)
    recent.add(first)
    recent.add(second)
    second.events.add_output("stdout", bytes(15_000))
    second.finish()
    assert recent.grown(second) == [first]


async def test_running_one_is_never_left_out(recent: RecentExecutions) -> None:
    running = [_live("ada", output=9_000, done=False) for _ in range(5)]
    for live in running:
        assert recent.add(live) == []
    assert list(recent) == running


async def test_many_owners_together_stay_below_the_whole(recent: RecentExecutions) -> None:
    made = [_live(f"user {number}", output=9_000) for number in range(50)]
    for live in made:
        recent.add(live)
    assert list(recent) == made[-2:]
    assert recent.get(made[0].execution.id, owner=None) is None


async def test_foreign_execution_is_a_missing_one(recent: RecentExecutions) -> None:
    live = _live("ada")
    recent.add(live)
    assert recent.get(live.execution.id, owner="bob") is None
    assert recent.get(live.execution.id, owner=None) is live


async def test_removed_one_gives_its_bytes_back(recent: RecentExecutions) -> None:
    large = _live("ada", output=9_000)
    recent.add(large)
    recent.remove(large)
    recent.remove(large)
    kept = [_live("ada", output=4_000) for _ in range(2)]
    assert [recent.add(live) for live in kept] == [[], []]
    assert list(recent) == kept
