"""Slots go round between owners, whatever order calls come, end and are cancelled in."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxd.accounts.fair_queue import FairQueue
from sandboxd.errors import Draining, QueueFull


@dataclass
class Holder:
    """A task that wants a slot, and holds it until told to let go."""

    queue: FairQueue[str]
    owner: str
    holds: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def start(self) -> "Holder":
        self.task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        async with self.queue.slot(self.owner):
            self.holds.set()
            await self.let_go.wait()

    async def finish(self) -> None:
        self.let_go.set()
        assert self.task
        await self.task


async def _settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_a_late_owner_is_served_before_the_rest_of_a_long_line() -> None:
    queue: FairQueue[str] = FairQueue(slots=1, max_queued=100)
    first = Holder(queue, "greedy").start()
    await _settle()
    line = [Holder(queue, "greedy").start() for _ in range(20)]
    await _settle()
    late = Holder(queue, "modest").start()
    await _settle()
    await first.finish()
    await _settle()
    assert late.holds.is_set()
    assert not any(holder.holds.is_set() for holder in line)
    for holder in (late, *line):
        await holder.finish()


async def test_a_full_queue_refuses_at_once_and_says_when_to_retry() -> None:
    queue: FairQueue[str] = FairQueue(slots=1, max_queued=2, max_queued_per_owner=1)
    holders = [Holder(queue, "a").start() for _ in range(2)]
    await _settle()
    with pytest.raises(QueueFull) as own:
        async with queue.slot("a"):
            pass
    holders.append(Holder(queue, "b").start())
    await _settle()
    with pytest.raises(QueueFull) as all_full:
        queue.check("c")
    assert own.value.limit == 1
    assert all_full.value.limit == 2
    assert all_full.value.retry_after >= 0.1
    for holder in holders:
        holder.let_go.set()
    await asyncio.gather(*(holder.task for holder in holders if holder.task))
    queue.check("c")
    assert (queue.running_count, queue.queued_count) == (0, 0)


async def test_an_owner_at_its_most_is_passed_over() -> None:
    queue: FairQueue[str] = FairQueue(slots=3, max_queued=10, max_running_per_owner=1)
    running = Holder(queue, "a").start()
    waiting = Holder(queue, "a").start()
    other = Holder(queue, "b").start()
    await _settle()
    assert other.holds.is_set()
    assert not waiting.holds.is_set()
    await running.finish()
    await _settle()
    assert waiting.holds.is_set()
    await waiting.finish()
    await other.finish()


async def test_closing_refuses_who_waits_and_lets_run_what_runs() -> None:
    queue: FairQueue[str] = FairQueue(slots=1, max_queued=10)
    running, waiting = Holder(queue, "a").start(), Holder(queue, "a").start()
    await _settle()
    queue.close()
    assert waiting.task
    with pytest.raises(Draining):
        await waiting.task
    with pytest.raises(Draining):
        queue.check("b")
    await running.finish()
    assert (queue.running_count, queue.queued_count) == (0, 0)


async def test_a_slot_handed_to_a_waiter_cancelled_meanwhile_goes_on() -> None:
    queue: FairQueue[str] = FairQueue(slots=1, max_queued=10)
    running, gone, next_one = (Holder(queue, owner).start() for owner in ("a", "b", "c"))
    await _settle()
    running.let_go.set()
    await asyncio.sleep(0)  # the slot is on its way to `gone`, which has not run yet
    assert gone.task
    gone.task.cancel()
    await _settle()
    assert next_one.holds.is_set()
    await next_one.finish()
    assert queue.running_count == 0


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "finish", "cancel", "burst"]), st.integers(0, 5), st.integers(0, 30)
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS, slots=st.integers(1, 4), own=st.integers(1, 4))
def test_any_sequence_keeps_the_bounds_and_wastes_no_slot(
    operations: list[tuple[str, int, int]], slots: int, own: int
) -> None:
    asyncio.run(_drive(operations, slots, own))


async def _drive(operations: list[tuple[str, int, int]], slots: int, own: int) -> None:
    queue: FairQueue[str] = FairQueue(slots=slots, max_queued=1000, max_running_per_owner=own)
    holders: list[Holder] = []
    for kind, who, pick in operations:
        running = [h for h in holders if h.holds.is_set()]
        if kind == "arrive":
            holders.append(Holder(queue, str(who)).start())
        elif kind == "burst":
            holders += [Holder(queue, str(who)).start() for _ in range(3)]
        elif kind == "finish" and running:
            running[pick % len(running)].let_go.set()
        elif kind == "cancel" and holders:
            task = holders[pick % len(holders)].task
            assert task
            task.cancel()
        if pick % 2:
            await _settle()
        holders = [h for h in holders if h.task and not h.task.done()]
        await _check(queue, holders, slots, own)
    for holder in holders:
        assert holder.task
        holder.task.cancel()
        with suppress(asyncio.CancelledError):
            await holder.task
    assert (queue.running_count, queue.queued_count) == (0, 0)
    assert not queue._waiting
    assert not queue._running
    assert not queue._round


async def _check(queue: FairQueue[str], holders: list[Holder], slots: int, own: int) -> None:
    await _settle()
    alive = [h for h in holders if h.task and not h.task.done()]
    running = [h for h in alive if h.holds.is_set()]
    waiting = [h for h in alive if not h.holds.is_set()]
    assert queue.running_count == len(running) <= slots
    assert queue.queued_count == len(waiting)
    for holder in waiting:
        mine = sum(h.owner == holder.owner for h in running)
        assert len(running) == slots or mine >= own, "a slot is free, and one who may have it waits"


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.integers(1, 40), min_size=2, max_size=6), slots=st.integers(1, 3))
def test_owners_that_wait_are_served_in_turn(lines: list[int], slots: int) -> None:
    served = asyncio.run(_serve(lines, slots))
    left = dict(enumerate(lines))
    since: dict[str, int] = {}
    for number, owner in enumerate(served):
        for other, count in left.items():
            if str(other) != owner and count:
                passed = sum(1 for o in served[since.get(str(other), 0) : number] if o == owner)
                assert passed <= slots + 1, f"{owner} was served again and again while {other} waited"
        since[owner] = number
        left[int(owner)] -= 1


async def _serve(lines: list[int], slots: int) -> list[str]:
    queue: FairQueue[str] = FairQueue(slots=slots, max_queued=1000)
    served: list[str] = []

    async def run(owner: str) -> None:
        async with queue.slot(owner):
            served.append(owner)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for owner, count in enumerate(lines):
            for _ in range(count):
                group.create_task(run(str(owner)))
    return served
