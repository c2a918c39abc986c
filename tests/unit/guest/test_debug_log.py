"""debug(), inspect_var() and get_debug_info(): what arrives, in which bounds."""

import pytest

from sandboxd.channel import values
from sandboxd.channel.messages import Inspected, LogDropped, LogEntry
from sandboxd.guest.from_values import to_python
from tests.unit.guest.nursery import RESTRICTED, Guest, Nursery


def test_entries_arrive_in_order_with_level_and_line(guest: Guest) -> None:
    guest.run("debug('a')\ndebug('b', 'warning')\nfor n in range(2):\n    debug(n, level='DEBUG')")
    entries = [each for each in guest.messages if isinstance(each, LogEntry)]
    assert [(each.message, each.level, each.line) for each in entries] == [
        ("a", "INFO", 1),
        ("b", "WARNING", 2),
        ("0", "DEBUG", 4),
        ("1", "DEBUG", 4),
    ]
    assert all(each.run_id == 1 and each.time_ns > 10**18 for each in entries)


def test_entries_arrive_while_the_program_runs(guest: Guest) -> None:
    guest.start("debug('now')\nimport threading\nthreading.Event().wait()")
    assert guest.wait_for(LogEntry).message == "now"


def test_unknown_level_is_an_error_that_names_the_levels(guest: Guest) -> None:
    failure = guest.run("debug('x', 'LOUD')").failure
    assert failure is not None
    assert failure.message == "level 'LOUD' is none of DEBUG, INFO, WARNING, ERROR, CRITICAL"


def test_inspected_variable_carries_type_summary_and_value(guest: Guest) -> None:
    guest.run("data = {'a': [1, 2]}\ninspect_var('data', data)\ndata.clear()")
    (inspected,) = guest.messages
    assert isinstance(inspected, Inspected)
    variable = inspected.variable
    assert (variable.name, variable.type_name, variable.summary) == ("data", "dict", "{'a': [1, 2]}")
    assert isinstance(variable.value, values.RecordValue)
    assert inspected.line == 2


def test_debug_info_sums_up_the_execution(guest: Guest) -> None:
    guest.run("debug('before')")
    code = "debug('a')\ndebug('b', 'ERROR')\ninspect_var('x', 5)\nget_debug_info()"
    value = guest.run(code).value
    assert value is not None
    assert to_python(value) == {
        "enabled": True,
        "total": 2,
        "by_level": {"DEBUG": 0, "INFO": 1, "WARNING": 0, "ERROR": 1, "CRITICAL": 0},
        "dropped": 0,
        "messages": [
            {"level": "INFO", "message": "a", "line": 1},
            {"level": "ERROR", "message": "b", "line": 2},
        ],
        "variables": {"x": {"type": "int", "summary": "5", "line": 3}},
    }


def test_log_is_capped_and_the_first_loss_is_told_once(nursery: Nursery) -> None:
    guest = nursery.spawn().configure(RESTRICTED, log_bytes=10_000)
    finished = guest.run("for n in range(1000):\n    debug('x' * 100)")
    entries = [each for each in guest.messages if isinstance(each, LogEntry)]
    assert 50 <= len(entries) <= 100
    assert [each for each in guest.messages if isinstance(each, LogDropped)] == [LogDropped(run_id=1)]
    assert finished.dropped_log_entries == 1000 - len(entries)
    guest.run("debug('next')")
    assert [type(each) for each in guest.messages] == [LogEntry]
    guest.close()


def test_long_message_is_cut_and_marked(guest: Guest) -> None:
    guest.run("debug('x' * 1_000_000)")
    (entry,) = guest.messages
    assert isinstance(entry, LogEntry)
    assert entry.truncated
    assert len(entry.message) == 65536


def test_nothing_is_recorded_when_debugging_is_off(nursery: Nursery) -> None:
    guest = nursery.spawn().configure(RESTRICTED, enable_debugging=False)
    value = guest.run("debug('x')\ninspect_var('x', 1)\nget_debug_info()['enabled']").value
    assert value == values.BoolValue(value=False)
    assert guest.messages == []
    guest.close()


def test_threads_log_whole_messages(guest: Guest) -> None:
    code = """
import threading
def work(n):
    for m in range(50):
        debug(f"{n} {m} " + "x" * 1000)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    assert guest.run(code).failure is None
    assert len(guest.messages) == 200


@pytest.mark.parametrize("message", ["'\\ud800'", "b'\\xff'", "None", "[1]", "ValueError('x')"])
def test_any_message_is_taken(guest: Guest, message: str) -> None:
    assert guest.run(f"debug({message})").failure is None
    assert len(guest.messages) == 1
