"""Attacks on the channel: forged, broken, endless frames. The host believes nothing and stays up.

User code shares its process with the guest's own code, so it may write to descriptor 3 whatever it likes.
"""

import time
from typing import Any

import pytest
from sandboxd_api.v1 import execution_service_pb2 as execution_service

from tests.support.serving import Serving

_FORGE = """
import os, msgspec, struct, time
from sandboxd.channel.messages import *
from sandboxd.channel.values import *
from sandboxd.channel.framing import encode_frame
def send(frame):
    view = memoryview(frame)
    while view:
        view = view[os.write(3, view):]
def raw(body):
    send(struct.pack('>I', len(body)) + body)
"""


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param("raw(b'garbage')", id="not_msgpack"),
        pytest.param("raw(b'')", id="empty_frame"),
        pytest.param("send(b'\\xff' * 65536)", id="frame_longer_than_allowed"),
        pytest.param("raw(b'\\x91' * 200_000 + b'\\xc0')", id="deep_nesting"),
        pytest.param("raw(b'\\xdd\\xff\\xff\\xff\\xff')", id="array_of_four_billion"),
        pytest.param(
            "raw(msgspec.msgpack.encode({'type': 'finished', 'run_id': 1, 'x': 1}))",
            id="unknown_field",
        ),
        pytest.param("raw(msgspec.msgpack.encode({'type': 'run', 'run_id': 1}))", id="host_message"),
        pytest.param(
            "raw(b'\\x82\\xa4type\\xa8finished\\xa6run_id\\xa2\\xff\\xfe')",
            id="text_for_a_number",
        ),
        pytest.param(
            "raw(msgspec.msgpack.encode(LogEntry(run_id=1, level='INFO', message='x', time_ns=0, line=0))"
            ".replace(b'\\xa1x', b'\\xa1\\xff'))",
            id="invalid_utf8",
        ),
        pytest.param(
            "[send(encode_frame(Ready(fork_gate=True))) for _ in range(1000)]", id="greetings_again"
        ),
        pytest.param(
            "[send(encode_frame(Finished(run_id=n))) for n in range(2, 1000)]", id="ends_of_other_runs"
        ),
        pytest.param(
            "[send(encode_frame(LogDropped(run_id=1))) for _ in range(1000)]", id="log_dropped_flood"
        ),
        pytest.param("os.close(3); time.sleep(20)", id="closed_channel"),
        pytest.param(
            "call = lambda n: Call(run_id=1, call_id=n, method='query', payload=b'')\n"
            "[send(encode_frame(call(n))) for n in range(1000)]",
            id="call_flood",
        ),
        pytest.param(
            "entry = encode_frame(LogEntry(run_id=1, level='INFO', message='x' * 60000, time_ns=0, line=0))\n"
            "while True: send(entry)",
            id="log_flood",
        ),
    ],
)
def test_hostile_frames_end_the_guest_as_a_protocol_violation(server: Serving, attack: str) -> None:
    sandbox = server.create(execution_timeout=10)
    answer = server.run(sandbox, f"{_FORGE}{attack}\ntime.sleep(20)")
    assert (answer.state, answer.failure) == ("FAILED", "PROTOCOL_VIOLATION"), answer.describe()
    assert answer.wall_seconds < 6
    assert answer.session in ("LOST", "RESTORED")
    assert server.run(sandbox, "print(1+1)").stdout == "2"
    server.delete(sandbox)


def test_a_forged_end_is_only_the_end_of_its_own_run(server: Serving) -> None:
    sandbox = server.create()
    forged = "value=IntValue(666)"
    answer = server.run(sandbox, f"{_FORGE}send(encode_frame(Finished(run_id=1, {forged})))\ntime.sleep(0.2)")
    assert answer.result.value.integer == 666  # its own result, which it could have returned as well
    second = server.run(sandbox, "__result__ = 7")
    assert second.state == "SUCCEEDED"
    assert second.result.value.integer == 7


def test_a_stale_end_does_not_reach_the_next_run(server: Serving) -> None:
    sandbox = server.create()
    server.run(
        sandbox,
        f"{_FORGE}import threading\n"
        "def late():\n"
        "    time.sleep(0.3)\n"
        "    send(encode_frame(Finished(run_id=1, value=IntValue(666))))\n"
        "threading.Thread(target=late).start()",
    )
    answer = server.run(sandbox, "import time; time.sleep(0.6); __result__ = 7")
    assert answer.result.value.integer == 7


_BIG = 2**64 - 1


@pytest.mark.parametrize(
    "message",
    [
        f"Finished(run_id=1, cancelled_tasks={_BIG}, live_threads={_BIG}, dropped_log_entries={_BIG})",
        f"Finished(run_id=1, value=IntValue({_BIG}))",
        f"Finished(run_id=1, value=DurationValue({_BIG}))",
        f"Finished(run_id=1, value=TimestampValue({_BIG}, {_BIG}, {_BIG}))",
        f"Finished(run_id=1, value=IntervalValue({_BIG}, {_BIG}, {_BIG}))",
        f"Finished(run_id=1, value=TextValue('', {_BIG}))",
        f"Finished(run_id=1, value=BytesValue(b'', {_BIG}))",
        f"Finished(run_id=1, value=ListValue([], {_BIG}))",
        f"Finished(run_id=1, value=ListValue([], -{2**63}))",
        f"Finished(run_id=1, value=ArrayValue('i8', [{_BIG}], IntColumn([{_BIG}], [{_BIG}]), {_BIG}))",
        f"Finished(run_id=1, value=TableValue([], None, {_BIG}, {_BIG}))",
        f"Inspected(run_id=1, line={_BIG}, time_ns={_BIG}, "
        "variable=VariableReport(name='x', type_name='', summary='', truncated=False))",
        f"LogEntry(run_id=1, level='INFO', message='x', time_ns=-{2**63}, line=-5)",
        "Finished(run_id=1, failure=FailureReport(kind='exception', type_name='', message='', traceback='', "
        f"frames=[FrameReport(function='f', label='', line={_BIG}, source_line='', in_user_code=True)]))",
        "Finished(run_id=1, failure=FailureReport(kind='policy_violation', type_name='', message='', "
        "traceback='', "
        f"violations=[Violation(rule='', message='', line={_BIG}, column=-1, alternative='')]))",
    ],
)
def test_numbers_beyond_every_range_are_no_error_of_the_service(server: Serving, message: str) -> None:
    answer = server.quick(f"{_FORGE}send(encode_frame({message}))\n", debugging=True)
    assert answer.state in ("SUCCEEDED", "FAILED")


@pytest.mark.parametrize("depth", [20, 45, 60, 150, 900])
def test_values_nested_too_deep_are_no_error_of_the_service(server: Serving, depth: int) -> None:
    code = f"{_FORGE}value = NullValue()\nfor _ in range({depth}): value = ListValue([value], 1)\n"
    answer = server.quick(code + "send(encode_frame(Finished(run_id=1, value=value)))\ntime.sleep(5)")
    assert answer.state in ("SUCCEEDED", "FAILED")


def test_replies_that_nobody_reads_do_not_fill_the_server(server: Serving) -> None:
    before = _resident(server.pid)
    answer = server.quick(
        f"{_FORGE}import time\n"
        "payload = msgspec.msgpack.encode({'sql': 'x' * 50000})\n"
        "for n in range(50_000):\n"
        "    send(encode_frame(Call(run_id=1, call_id=n, method='query', payload=payload)))\n"
        "    time.sleep(0.0005)\n",
        seconds=5,
    )
    assert answer.state != "SUCCEEDED" or answer.failure
    assert _resident(server.pid) - before < 64 * 1024 * 1024


_DEBUG = "from sandboxd.channel.debug import *\n"


def _debug(server: Serving, code: str) -> Any:
    sandbox = server.create(execution_timeout=20, cpu_percent=100)
    request = execution_service.DebugRequest(sandbox_id=sandbox, code=_FORGE + _DEBUG + code)
    return server.executions.Debug(request, metadata=server.metadata, timeout=60)


@pytest.mark.parametrize(
    "report",
    [
        "DebugLogpoint(run_id=1, line=1, message='x' * 1_000_000, time_ns=1)",
        "DebugStarted(run_id=1, executable_lines=[1000] * 300_000, engine='')",
        "DebugSteps(run_id=1, payloads=[b''] * 400_000, step_count=0)",
        "CommandDone(command_id=1, kind='refused', message='x' * 1_000_000)",
    ],
)
def test_debug_reports_that_nobody_reads_do_not_fill_the_server(server: Serving, report: str) -> None:
    before = _resident(server.pid)
    run = _debug(server, f"report = encode_frame({report})\nwhile True: send(report)")
    time.sleep(2.0)
    grown = _resident(server.pid) - before
    run.cancel()
    assert grown < 64 * 1024 * 1024, f"{grown >> 20} MiB"


@pytest.mark.parametrize(
    "reports",
    [
        f"DebugSteps(run_id=1, payloads=[b''], step_count={2**64 - 1}), "
        f"DebugSteps(run_id=1, payloads=[b''], step_count={2**64 - 1})",
        f"DebugLogpoint(run_id=1, line={2**64 - 1}, message='', time_ns=-{2**63})",
        f"DebugStarted(run_id=1, executable_lines=[-1, {2**64 - 1}], engine='')",
        f"DebugStopped(run_id=1, payload=b'no message', reason={2**64 - 1}, stdout_bytes=-1)",
        "DebugEnded(run_id=1, summary=b'no message')",
        f"CommandDone(command_id={2**64 - 1}, kind='evaluated', payload=b'no message')",
    ],
)
def test_forged_debug_reports_are_no_error_of_the_service(server: Serving, reports: str) -> None:
    run = _debug(server, f"for report in ({reports},): send(encode_frame(report))\nos._exit(0)")
    assert [event.event.WhichOneof("event") for event in run][-1] == "finished"


def test_output_between_executions_is_not_read_for_ever(server: Serving) -> None:
    sandbox = server.create()
    server.run(
        sandbox,
        "import os, threading\n"
        "def flood():\n"
        "    while True: os.write(1, b'x' * 65536)\n"
        "threading.Thread(target=flood, daemon=True).start()",
    )
    before = _cpu(server.pid)
    time.sleep(1.0)
    assert _cpu(server.pid) - before < 0.3, "the host reads a flood that belongs to no execution"
    assert server.run(sandbox, "__result__ = 1").state in ("SUCCEEDED", "FAILED")
    server.delete(sandbox)


def test_fork_attempts_without_end_do_not_keep_the_host_busy(server: Serving) -> None:
    answer = server.quick(
        "import os, time\n"
        "tried, end = 0, time.monotonic() + 20\n"
        "while time.monotonic() < end and tried < 30_000:\n"
        "    try: os.fork()\n"
        "    except OSError as error: last = error\n"
        "    tried += 1\n"
        "print(type(last).__name__, last.errno)",
        seconds=25,
    )
    assert answer.stdout == "OSError 38", answer.describe()  # ENOSYS: the kernel answers, not the host


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
