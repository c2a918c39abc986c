"""Quotas are counted by user, refused before anything is taken, and given back once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.accounts.quotas import Lease, QuotaLedger, Quotas, Refusal, Resource, UserKey
from sandboxd.errors import QuotaExceeded

ADA, BOB = UserKey("svc", "ada"), UserKey("svc", "bob")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_quota_refuses_the_next_and_names_limit_and_use() -> None:
    ledger = QuotaLedger(default=Quotas(sandboxes=2))
    held = [ledger.acquire(ADA, Resource.SANDBOXES) for _ in range(2)]
    refusal = ledger.try_acquire(ADA, Resource.SANDBOXES)
    assert isinstance(refusal, Refusal)
    assert (refusal.resource, refusal.limit, refusal.used) == ("sandboxes", 2, 2)
    with pytest.raises(QuotaExceeded) as caught:
        ledger.acquire(ADA, Resource.SANDBOXES)
    assert caught.value.retry_after_seconds
    assert isinstance(ledger.try_acquire(BOB, Resource.SANDBOXES), Lease)
    assert isinstance(ledger.try_acquire(UserKey("other", "ada"), Resource.SANDBOXES), Lease)
    assert isinstance(ledger.try_acquire(ADA, Resource.DEBUG_STREAMS), Lease)
    held[0].release()
    held[0].release()
    assert ledger.used(ADA, Resource.SANDBOXES) == 1
    with ledger.acquire(ADA, Resource.SANDBOXES):
        assert ledger.used(ADA, Resource.SANDBOXES) == 2
    assert ledger.used(ADA, Resource.SANDBOXES) == 1


def test_a_user_may_have_quotas_of_its_own() -> None:
    ledger = QuotaLedger(default=Quotas(debug_streams=1), of_users={BOB: Quotas(debug_streams=0)})
    ledger.acquire(ADA, Resource.DEBUG_STREAMS)
    with pytest.raises(QuotaExceeded):
        ledger.acquire(BOB, Resource.DEBUG_STREAMS)


def test_cpu_time_is_refused_until_it_has_drained() -> None:
    clock = Clock()
    ledger = QuotaLedger(default=Quotas(cpu_seconds_per_minute=60), clock=clock)
    ledger.charge_cpu(ADA, 59)
    assert ledger.refuse_execution(ADA) is None
    ledger.charge_cpu(ADA, 11)
    refusal = ledger.refuse_execution(ADA)
    assert refusal
    assert refusal.retry_after_seconds == pytest.approx(10.0)
    assert ledger.refuse_execution(BOB) is None
    clock.now += refusal.retry_after_seconds + 0.01
    assert ledger.refuse_execution(ADA) is None


def test_stored_bytes_are_asked_of_the_store() -> None:
    stored = {ADA: 10, BOB: 9}
    ledger = QuotaLedger(default=Quotas(stored_bytes=10), stored_bytes=lambda user: stored[user])
    refusal = ledger.refuse_execution(ADA)
    assert refusal
    assert (refusal.resource, refusal.used) == ("stored_bytes", 10)
    assert ledger.refuse_execution(BOB) is None


def test_idle_users_are_forgotten() -> None:
    clock = Clock()
    ledger = QuotaLedger(clock=clock)
    for number in range(5000):
        user = UserKey("svc", str(number))
        ledger.charge_cpu(user, 0.001)
        ledger.acquire(user, Resource.SANDBOXES).release()
        clock.now += 1
    assert len(ledger._accounts) <= 1025


@given(st.lists(st.tuples(st.sampled_from([ADA, BOB]), st.booleans()), max_size=80))
def test_any_sequence_counts_what_is_held(steps: list[tuple[UserKey, bool]]) -> None:
    ledger = QuotaLedger(default=Quotas(parallel_executions=3))
    held: dict[UserKey, list[Lease]] = {ADA: [], BOB: []}
    for user, take in steps:
        if take:
            found = ledger.try_acquire(user, Resource.PARALLEL_EXECUTIONS)
            assert isinstance(found, Lease) == (len(held[user]) < 3)
            if isinstance(found, Lease):
                held[user].append(found)
        elif held[user]:
            held[user].pop().release()
        assert ledger.used(user, Resource.PARALLEL_EXECUTIONS) == len(held[user])
