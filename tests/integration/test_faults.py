"""What happens when parts of the service are killed, stopped or left alone: it heals, and nothing is left."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from sandboxd_api.v1 import execution_service_pb2, sandbox_service_pb2, statistics_pb2

from tests.support.leftovers import Leftovers, assert_nothing_left, cgroup_roots, settled, wait_until
from tests.support.serving import Answer, Serving, descendants, health_of, options_of, serving

_HEALED_SECONDS = 20
"""Unloaded it is under 2 s; the machine that runs the tests may be busy with others."""


@pytest.fixture
def own_server() -> Iterator[Serving]:
    with serving() as server:
        yield server


def test_a_killed_zygote_is_replaced_and_new_sandboxes_work(own_server: Serving) -> None:
    server = own_server
    lost = server.create()
    old = server.zygote_pid
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: _new_zygote(server, old), seconds=_HEALED_SECONDS, what="a new zygote")
    assert server.output("print(1+1)") == "2"
    answer = server.run(lost, "print('again')")  # its session is gone, the sandbox is not
    assert answer.stdout == "again"
    settled(server.pid)


def test_runs_in_flight_end_as_aborted_when_the_zygote_dies(own_server: Serving) -> None:
    server = own_server
    sandboxes = [server.create() for _ in range(20)]
    running = [
        server.start(sandbox, "print('started', flush=True)\nimport time; time.sleep(60)", seconds=30)
        for sandbox in sandboxes
    ]
    wait_until(lambda: _running(server) == 20, seconds=20, what="twenty runs")
    killed = time.monotonic()
    os.kill(server.zygote_pid, signal.SIGKILL)
    answers = [Answer(call.result(timeout=_HEALED_SECONDS).execution) for call in running]
    assert {(answer.state, answer.failure) for answer in answers} == {("ABORTED", "OUTCOME_UNKNOWN")}
    assert time.monotonic() - killed < _HEALED_SECONDS
    assert server.output("print(1+1)") == "2"
    for sandbox in sandboxes:
        server.delete(sandbox)


def test_nothing_outlives_a_killed_server() -> None:
    with serving() as server:
        sandbox = server.create()
        busy = server.start(sandbox, "while True: pass", seconds=30)
        wait_until(lambda: _running(server) == 1, seconds=20, what="a run")
        family = descendants(server.pid)
        roots = cgroup_roots(server.pid)
        assert len(family) > 3
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(_alive(pid) for pid in family), seconds=5, what="every process is gone")
        with pytest.raises(grpc.RpcError):
            busy.result(timeout=5)
    with serving() as successor:  # sweeps what was left of the dead one
        assert not any(root.exists() for root in roots)
        assert successor.output("print(1)") == "1"


def test_a_stopped_server_lets_runs_end_and_refuses_new_ones() -> None:
    with serving() as server:
        sandbox = server.create()
        running = server.start(sandbox, "import time; time.sleep(2); print('done')")
        wait_until(lambda: _running(server) == 1, seconds=20, what="a run")
        server.process.terminate()
        wait_until(lambda: _is_refused(server), seconds=5, what="new calls are refused")
        assert Answer(running.result(timeout=30).execution).stdout == "done"
        assert server.process.wait(timeout=30) == 0


def test_a_stopped_server_refuses_at_once_who_waits_for_a_sandbox() -> None:
    with serving() as server:
        sandbox = server.create()
        running = server.start(sandbox, "import time; time.sleep(12); print('done')")
        wait_until(lambda: _running(server) == 1, seconds=20, what="a run")
        waiting = [server.start(sandbox, "1") for _ in range(3)]
        wait_until(lambda: _waiting(server) == 3, seconds=20, what="three wait")
        server.process.terminate()
        errors = [call.exception(timeout=20) for call in waiting]
        assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
        assert not running.done()
        assert Answer(running.result(timeout=60).execution).stdout == "done"
        assert server.process.wait(timeout=30) == 0


def test_a_client_that_goes_away_stops_its_run(server: Serving) -> None:
    sandbox = server.create()
    call = server.start(sandbox, "while True: pass", seconds=30)
    wait_until(lambda: _running(server) == 1, seconds=20, what="a run")
    call.cancel()
    wait_until(lambda: _running(server) == 0, seconds=5, what="the run is stopped")
    assert server.run(sandbox, "print(1)").stdout == "1"
    server.delete(sandbox)


def test_a_deadline_stops_the_run(server: Serving) -> None:
    sandbox = server.create()
    request = execution_service_pb2.ExecuteRequest(
        sandbox_id=sandbox, code="while True: pass", options=options_of(30)
    )
    with pytest.raises(grpc.RpcError) as ended:
        server.executions.Execute(request, metadata=server.metadata, timeout=0.5)
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: _running(server) == 0, seconds=5, what="the run is stopped")
    assert server.run(sandbox, "print(1)").stdout == "1"
    server.delete(sandbox)


def test_deleted_and_expired_sandboxes_leave_nothing(leak_free: Serving) -> None:
    server = leak_free
    kept = server.create(idle_timeout=0.3)
    busy = server.create()
    server.run(kept, "open('/workspace/f', 'wb').write(bytes(1 << 20))")
    call = server.start(busy, "while True: pass", seconds=30)
    wait_until(lambda: _running(server) == 1, seconds=20, what="a run")
    server.delete(busy)
    assert Answer(call.result(timeout=10).execution).failure == "SANDBOX_ENDED"
    with pytest.raises(grpc.RpcError) as gone:
        wait_until(
            lambda: server.run(kept, "1") is None or time.sleep(1) is not None, seconds=20, what="expiry"
        )
    assert gone.value.code() is grpc.StatusCode.NOT_FOUND


def test_hundred_quick_runs_of_all_kinds_leave_nothing(leak_free: Serving) -> None:
    programs = (
        "print(1)",
        "raise ValueError",
        "import os; os._exit(1)",
        "x = bytearray(1 << 30)",
        "import ctypes; ctypes.string_at(0)",
        "import os; os.close(3); import time; time.sleep(9)",
        "import os\nwhile True: os.write(1, bytes(65536))",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "open('/workspace/f', 'wb').write(bytes(1 << 20))",
        "import os\ntry: os.fork()\nexcept OSError: pass",
    )
    for number in range(100):
        leak_free.quick(programs[number % len(programs)], seconds=10)


def test_a_stopped_guest_still_ends_at_its_limit(server: Serving) -> None:
    sandbox = server.create()
    guests = server.guests_of(sandbox)
    call = server.start(sandbox, "while True: pass", seconds=2)
    wait_until(lambda: _running(server) == 1, seconds=20, what="a run")
    for pid in guests:
        if _alive(pid):
            os.kill(pid, signal.SIGSTOP)
    answer = Answer(call.result(timeout=20).execution)
    assert answer.state == "TIMED_OUT"
    assert answer.wall_seconds < 5
    server.delete(sandbox)


def test_a_stopped_zygote_is_replaced_and_its_sandboxes_live_on(own_server: Serving) -> None:
    server = own_server
    kept = server.create()
    server.run(kept, "x = 6 * 7")
    running = server.start(kept, "import time; time.sleep(8); print(x)", seconds=30)
    wait_until(lambda: _running(server) == 1, seconds=20, what="a run")
    assert health_of(server) == "SERVING"
    stopped = server.zygote_pid
    os.kill(stopped, signal.SIGSTOP)
    noticed = wait_until(
        lambda: health_of(server) == "NOT_SERVING", seconds=_HEALED_SECONDS, what="health says so"
    )
    wait_until(lambda: health_of(server) == "SERVING", seconds=3 * _HEALED_SECONDS, what="it heals")
    assert noticed < _HEALED_SECONDS / 2  # unloaded it is under 3 s
    assert server.output("print('new')") == "new"
    assert Answer(running.result(timeout=60).execution).stdout == "42"
    server.delete(kept)
    wait_until(lambda: not _alive(stopped), seconds=_HEALED_SECONDS, what="the old one ends")
    settled(server.pid)


def test_a_ready_guest_that_dies_in_the_pool_is_replaced(own_server: Serving) -> None:
    held = settled(own_server.pid)
    killed = descendants(own_server.zygote_pid)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(_alive(pid) for pid in killed), seconds=5, what="the killed are gone")
    assert_nothing_left(own_server.pid, held, seconds=_HEALED_SECONDS)
    assert own_server.output("print(1)") == "1"


def _new_zygote(server: Serving, old: int) -> bool:
    try:
        return server.zygote_pid != old
    except StopIteration:
        return False


def _running(server: Serving) -> int:
    return int(_statistics(server).running_execution_count)


def _waiting(server: Serving) -> int:
    return int(_statistics(server).queued_execution_count)


def _statistics(server: Serving) -> statistics_pb2.Statistics:
    request = sandbox_service_pb2.GetStatisticsRequest()
    return server.sandboxes.GetStatistics(request, metadata=server.metadata, timeout=20).statistics


def _is_refused(server: Serving) -> bool:
    try:
        server.quick("1")
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_leftovers_see_what_is_left(server: Serving) -> None:
    """The control of every test above that uses them: a sandbox that lives on is seen."""
    before = settled(server.pid)
    sandbox = server.create()
    assert Leftovers.of(server.pid).processes > before.processes or settled(server.pid) != before
    server.delete(sandbox)
    assert_nothing_left(server.pid, before)
