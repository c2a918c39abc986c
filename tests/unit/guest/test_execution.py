"""Whole executions in a real guest process: values, state, await, output, inputs."""

import pytest

from sandboxd.channel import values
from sandboxd.channel.messages import Input
from tests.unit.guest.nursery import Guest


def test_last_expression_is_the_value(guest: Guest) -> None:
    finished = guest.run("x = 20\nx + 22")
    assert finished.failure is None
    assert finished.value == values.IntValue(value=42)


def test_result_variable_wins_over_the_last_expression(guest: Guest) -> None:
    assert guest.run("__result__ = 'set'\n1").value == values.TextValue(text="set", total_length=3)


def test_result_of_an_earlier_execution_is_not_a_result_again(guest: Guest) -> None:
    guest.run("__result__ = 1")
    assert guest.run("x = 2").value is None


def test_explicit_none_is_a_value_and_a_last_none_is_not(guest: Guest) -> None:
    assert guest.run("__result__ = None").value == values.NullValue()
    assert guest.run("print()").value is None


def test_namespace_lives_on_between_executions(guest: Guest) -> None:
    guest.run("import math\ndef area(r):\n    return math.pi * r * r")
    assert guest.run("round(area(2), 2)").value == values.FloatValue(value=12.57)


def test_top_level_await_runs_and_each_execution_has_a_loop_of_its_own(guest: Guest) -> None:
    code = "import asyncio\nawait asyncio.sleep(0)\nasync def f():\n    return 5\nawait f()"
    assert guest.run(code).value == values.IntValue(value=5)
    assert guest.run("await f()").value == values.IntValue(value=5)


def test_asyncio_run_works_without_top_level_await(guest: Guest) -> None:
    code = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 6\nasyncio.run(f())"
    assert guest.run(code).value == values.IntValue(value=6)
    assert guest.run("asyncio.get_event_loop_policy().new_event_loop().run_until_complete(f())").value == (
        values.IntValue(value=6)
    )


def test_pending_tasks_are_cancelled_and_counted(guest: Guest) -> None:
    code = """
import asyncio
async def wait():
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        print("told")
        raise
tasks = [asyncio.create_task(wait()) for _ in range(3)]
await asyncio.sleep(0)
"""
    assert guest.run(code).cancelled_tasks == 3
    assert guest.output() == "told\n" * 3


def test_async_generator_left_open_is_finalised(guest: Guest) -> None:
    code = """
async def numbers():
    try:
        yield 1
        yield 2
    finally:
        print("closed")
generator = numbers()
await anext(generator)
"""
    assert guest.run(code).failure is None
    assert guest.output() == "closed\n"


def test_dataclasses_and_annotations_find_their_module(guest: Guest) -> None:
    code = """
from __future__ import annotations
from dataclasses import dataclass
import typing

@dataclass
class Point:
    x: int
    y: float = 1.5

typing.get_type_hints(Point)["y"] is float and Point(1) == Point(1, 1.5)
"""
    assert guest.run(code).value == values.BoolValue(value=True)


def test_datetime_works_without_an_import_and_as_a_module_after_one(guest: Guest) -> None:
    assert guest.run("datetime.utcnow().year > 2000").value == values.BoolValue(value=True)
    assert guest.run("import datetime\ndatetime.datetime.now().year > 2000").value == (
        values.BoolValue(value=True)
    )


def test_inputs_are_bound_before_the_run(guest: Guest) -> None:
    inputs = [
        Input(name="order", format="json", payload='{"total": 12}'),
        Input(name="table", format="csv", payload="a,b\n1,2\n3,4\n"),
    ]
    finished = guest.run("order['total'] + int(table['b'].sum())", inputs=inputs)
    assert finished.value == values.IntValue(value=18)


def test_output_of_text_that_is_no_text_is_escaped(guest: Guest) -> None:
    finished = guest.run("print('\\ud800 caf\\u00e9')\nprint('no newline', end='')")
    assert finished.failure is None
    assert guest.output() == "\\ud800 café\nno newline"


def test_replaced_and_closed_streams_come_back(free_guest: Guest) -> None:
    free_guest.run("import sys, io\nsys.stdout = io.StringIO()\nprint('lost')\nsys.stderr.close()")
    free_guest.run("print('kept')\nprint('also', file=sys.stderr)")
    assert free_guest.output() == "kept\n"
    assert free_guest.output("stderr") == "also\n"


def test_threads_print_and_those_that_stay_are_counted(guest: Guest) -> None:
    code = """
import threading
stay = threading.Event()
threading.Thread(target=lambda: print("from a thread")).start()
threading.Thread(target=stay.wait).start()
"""
    finished = guest.run(code)
    assert finished.live_threads >= 1
    assert guest.run("stay.set()").failure is None
    assert guest.output() == "from a thread\n"


def test_state_lists_the_users_variables_only(guest: Guest) -> None:
    guest.run("import math\nx = 5\nnames = ['a']\ndef f(): pass\n__result__ = 1")
    report = guest.inspect()
    assert [(each.name, each.type_name, each.summary) for each in report.variables] == [
        ("x", "int", "5"),
        ("names", "list", "['a']"),
        ("f", "function", "<function f>"),
    ]
    assert report.total_count == 3
    assert report.variables[0].value == values.IntValue(value=5)
    assert len(guest.inspect(limit=1).variables) == 1


def test_functions_defined_earlier_log_into_the_current_execution(guest: Guest) -> None:
    guest.run("def say(text):\n    debug(text)")
    guest.run("say('second')")
    (entry,) = guest.messages
    assert (entry.run_id, entry.message, entry.line) == (2, "second", 2)


@pytest.mark.parametrize("source", ["__builtins__.clear()", "del __builtins__", "__builtins__ = {}"])
def test_lost_builtins_are_back_for_the_next_execution(guest: Guest, source: str) -> None:
    guest.run(source)
    assert guest.run("debug('x')\nlen([1])").value == values.IntValue(value=1)
    failure = guest.run("__builtins__['eval']('1')").failure
    assert failure is not None
    assert failure.kind == "policy_violation"


@pytest.mark.parametrize("source", ["", "# nothing", "pass"])
def test_nothing_to_do_ends_without_value_and_failure(guest: Guest, source: str) -> None:
    finished = guest.run(source)
    assert (finished.value, finished.failure) == (None, None)


def test_network_is_said_to_be_off(guest: Guest) -> None:
    finished = guest.run("import requests\nrequests.get('http://example.com')")
    assert finished.failure is not None
    assert "network is off in this sandbox" in finished.failure.message


def test_guests_differ_in_their_randomness(nursery, guest: Guest) -> None:  # type: ignore[no-untyped-def]
    other = nursery.spawn().configure()
    code = """
import random, secrets, uuid, tempfile
import numpy as np
[random.random(), float(np.random.rand()), secrets.token_hex(), str(uuid.uuid4()),
 float(np.random.default_rng().random()), next(tempfile._get_candidate_names())]
"""
    ours, theirs = guest.run(code).value, other.run(code).value
    other.close()
    assert isinstance(ours, values.ListValue)
    assert isinstance(theirs, values.ListValue)
    assert all(a != b for a, b in zip(ours.items, theirs.items, strict=True))
