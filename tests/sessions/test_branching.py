"""Branches: independent from the first moment, alive beyond their origin, made all or none."""

import uuid

import grpc
import pytest

from tests.support.serving import Serving
from tests.support.sessions import CRASHES, sandbox


def test_branches_begin_equal_and_go_their_own_ways(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = [1]; open('f', 'w').write('origin')")
        left, right = one.branches(2)
        left.run("x.append(2); open('f', 'w').write('left')")
        assert right.value("[x, open('f').read()]") == [[1], "origin"]
        assert left.value("[x, open('f').read()]") == [[1, 2], "left"]
        assert one.value("[x, open('f').read()]") == [[1], "origin"]
        for branch in (left, right):
            branch.delete()


def test_branch_says_where_it_comes_from(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        (branch,) = one.branches()
        told = branch.describe()
        assert (told.origin_sandbox_id, told.family_id) == (one.id, one.id)
        assert branch.id != one.id
        (second,) = branch.branches()
        assert (second.describe().origin_sandbox_id, second.describe().family_id) == (branch.id, one.id)
        branch.delete()
        assert second.value("x") == 1
        second.delete()


def test_branch_outlives_its_origin_and_the_other_way_round(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1; open('f', 'w').write('kept')")
        staying, leaving = one.branches(2)
        leaving.delete()
        assert one.value("x") == 1
        one.delete()
        assert staying.value("[x, open('f').read()]") == [1, "kept"]
        assert staying.run("x = 2\n" + CRASHES["segfault"]).session == "RESTORED"
        assert staying.value("[x, open('f').read()]") == [1, "kept"]
        staying.delete()


def test_branches_that_expire_soon_leave_no_process(leak_free: Serving) -> None:
    # Those that expired while the others were made used to leave their processes for ever.
    with sandbox(leak_free) as one:
        one.run("x = bytearray(30_000_000)")
        one.branches(50, idle_seconds=0.05)


def test_branch_whose_files_have_no_room_is_not_made(leak_free: Serving) -> None:
    # It used to be made without them, which only the server's log told.
    with sandbox(leak_free) as one:
        one.run("open('large', 'wb').write(bytes(10_000_000))")
        with pytest.raises(grpc.RpcError) as refused:
            one.branches(2)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "large: No space left on device" in refused.value.details()
        assert one.value("len(open('large', 'rb').read())") == 10_000_000


def test_crash_of_a_branch_before_its_first_success_restores_its_beginning(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        (branch,) = one.branches()
        one.run("x = 2")
        assert branch.run("x = 3\n" + CRASHES["exit"]).session == "RESTORED"
        assert (branch.value("x"), one.value("x")) == (1, 2)
        branch.delete()


def test_branch_has_a_history_and_a_rewind_of_its_own(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 1")
        (branch,) = one.branches()
        assert branch.execute("x = 2").number == 1
        branch.rewind(before_execution_number=1)
        assert branch.value("x") == 1
        assert one.describe().execution_count == 1
        branch.delete()


def test_branch_of_a_kept_state(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        for number in range(3):
            one.run(f"x = {number}")
        earlier = one.checkpoints()[1]
        (branch,) = one.branches(checkpoint_id=earlier.id)
        assert (branch.value("x"), one.value("x")) == (1, 2)
        branch.delete()


def test_branch_of_a_fresh_sandbox(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        (branch,) = one.branches()
        branch.run("x = 1")
        assert one.value("'x' in dir()") is False
        branch.delete()


def test_files_of_a_deleted_branch_are_removed(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("import os, time")
        (branch,) = one.branches()
        assert branch.run("open('f', 'wb').write(bytes(1 << 20))").state == "SUCCEEDED"
        branch.delete()
        waited = (
            "for _ in range(200):\n    if not os.listdir('/workspace/.branches'): break\n    time.sleep(0.02)"
        )
        assert one.value("os.listdir('/workspace/.branches')", prepare=waited) == []


def test_hundred_branches_all_work_and_end(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("x = 100")
        branches = one.branches(100)
        assert len({branch.id for branch in branches}) == 100
        assert [branch.value("x") for branch in branches[::20]] == [100] * 5
        for branch in branches:
            branch.delete()


@pytest.mark.parametrize("count", [-1, 101])
def test_count_out_of_range_is_refused(leak_free: Serving, count: int) -> None:
    with sandbox(leak_free) as one, pytest.raises(grpc.RpcError) as refused:
        one.branches(count)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_session_with_threads_is_not_branched(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        one.run("import threading; stop = threading.Event(); threading.Thread(target=stop.wait).start()")
        with pytest.raises(grpc.RpcError, match="threads") as refused:
            one.branches()
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        one.run("stop.set()")
        (branch,) = one.branches()
        branch.delete()


def test_switched_off_checkpoints_are_not_branched(leak_free: Serving) -> None:
    with sandbox(leak_free, checkpoints=False) as one, pytest.raises(grpc.RpcError) as refused:
        one.branches()
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_retried_branching_gives_the_branches_of_the_first_call(leak_free: Serving) -> None:
    with sandbox(leak_free) as one:
        request_id = str(uuid.uuid4())
        first = one.branches(2, request_id=request_id)
        again = one.branches(2, request_id=request_id)
        assert [branch.id for branch in again] == [branch.id for branch in first]
        with pytest.raises(grpc.RpcError) as reused:
            one.branches(1, request_id=request_id)
        assert reused.value.code() is grpc.StatusCode.ALREADY_EXISTS
        for branch in first:
            branch.delete()


def test_threads_are_limited_with_copies_beside(leak_free: Serving) -> None:
    count = """
import threading
stop = threading.Event(); started = 0
try:
    for _ in range(50):
        threading.Thread(target=stop.wait).start(); started += 1
except RuntimeError:
    pass
stop.set()
print(started)
"""
    with sandbox(leak_free, threads=6) as one:
        assert one.run(count).stdout == "6"
        for number in range(4):
            one.run(f"x = {number}")
        assert one.run(count).stdout == "6"
        (branch,) = one.branches()
        assert 6 <= int(branch.run(count).stdout) <= 20
        branch.delete()
