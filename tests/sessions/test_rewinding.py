"""Kept states: the ring, named ones, rewinding and going forward again."""

import grpc
import pytest

from tests.support.serving import Serving
from tests.support.sessions import CRASHES, sandbox, wait_until


def test_rewind_before_an_execution_and_forward_again(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        executions = [one.execute(f"x = {number}; open('f', 'w').write(str(x))") for number in range(4)]
        done = one.rewind(before_execution_id=executions[2].id)
        assert (done.restored.after_execution_number, done.left.after_execution_number) == (2, 4)
        assert done.left.ahead
        ahead = [kept.ahead for kept in one.checkpoints()]
        assert ahead == [True, True, False, False, False]
        one.rewind(checkpoint_id=done.left.id)
        assert not any(kept.ahead for kept in one.checkpoints())
        assert one.value("[x, open('f').read()]") == [3, "3"]


def test_new_execution_makes_states_ahead_stale(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        for number in range(3):
            one.run(f"x = {number}")
        left = one.rewind(before_execution_number=2).left
        assert one.value("x") == 0
        with pytest.raises(grpc.RpcError) as gone:
            one.rewind(checkpoint_id=left.id)
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_failed_execution_that_was_undone_keeps_states_ahead(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        for number in range(3):
            one.run(f"x = {number}")
        left = one.rewind(before_execution_number=3).left
        assert one.run(CRASHES["exit"]).session == "RESTORED"
        one.rewind(checkpoint_id=left.id)
        assert one.value("x") == 2


def test_ring_keeps_as_many_as_asked_for(leak_free: Serving) -> None:
    with sandbox(leak_free, history=2) as one:
        for number in range(5):
            one.run(f"x = {number}")
        assert [kept.after_execution_number for kept in one.checkpoints()] == [5, 4, 3]
        with pytest.raises(grpc.RpcError) as gone:
            one.rewind(before_execution_number=2)
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND


def test_history_of_none_still_restores(leak_free: Serving) -> None:
    with sandbox(leak_free, history=0) as one:
        one.run("x = 1")
        assert len(one.checkpoints()) == 1
        assert one.run("x = 2\n" + CRASHES["exit"]).session == "RESTORED"
        assert one.value("x") == 1


def test_named_state_is_kept_until_it_is_dropped(leak_free: Serving) -> None:
    with sandbox(leak_free, history=1) as one:
        one.run("x = 1")
        assert one.name("good").name == "good"
        for number in range(2, 6):
            one.run(f"x = {number}")
        one.rewind(checkpoint_name="good")
        assert one.value("x") == 1
        one.drop(checkpoint_name="good")
        with pytest.raises(grpc.RpcError) as gone:
            one.rewind(checkpoint_name="good")
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND


def test_name_in_use_moves_and_a_state_may_have_two(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        one.name("a")
        one.name("b")
        one.run("x = 2")
        one.name("a")
        one.run("x = 3")
        one.rewind(checkpoint_name="b")
        assert one.value("x") == 1
        one.rewind(checkpoint_name="a")
        assert one.value("x") == 2


def test_named_states_are_bounded(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        for number in range(32):
            one.name(f"n{number}")
        with pytest.raises(grpc.RpcError) as full:
            one.name("one.more")
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        one.name("n0")


def test_fresh_session_can_be_named_and_rewound_to(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.name("fresh")
        one.run("x = 1")
        one.rewind(checkpoint_name="fresh")
        assert one.value("'x' in dir()") is False


def test_rewind_to_before_the_first_execution_is_the_fresh_session(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1; open('f', 'w').close()")
        done = one.rewind(before_execution_number=1)
        assert done.restored.after_execution_number == 0
        assert one.value("['x' in dir(), os.listdir()]", prepare="import os") == [False, []]


def test_rewind_while_an_execution_runs_is_refused(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        one.settled()
        running = leak_free.start(one.id, "import time; time.sleep(5)", seconds=8)
        wait_until(lambda: bool(one.running()), seconds=5, what="it runs")
        with pytest.raises(grpc.RpcError) as busy:
            one.rewind(before_execution_number=1)
        assert busy.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        running.cancel()


def test_rewound_session_recovers_from_a_crash_to_where_it_was_rewound(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        for number in range(3):
            one.run(f"x = {number}")
        one.rewind(before_execution_number=2)
        assert one.run("x = 9\n" + CRASHES["segfault"]).session == "RESTORED"
        assert one.value("x") == 0


@pytest.mark.parametrize(
    "target", [{}, {"before_execution_number": 0}, {"checkpoint_id": ""}, {"checkpoint_name": ""}]
)
def test_bad_target_is_refused(leak_free: Serving, target: dict[str, object]) -> None:
    with sandbox(leak_free) as one, pytest.raises(grpc.RpcError) as refused:
        one.rewind(**target)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "ü", "a/b"])
def test_bad_name_is_refused(leak_free: Serving, name: str) -> None:
    with sandbox(leak_free) as one, pytest.raises(grpc.RpcError) as refused:
        one.name(name)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
