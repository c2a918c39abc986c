"""db_query(), db_tables(), db_schema(): questions, answers, errors, and rows as user code sees them."""

from collections.abc import Callable, Iterator

import pytest

from sandboxd.channel import values as v
from sandboxd.channel.messages import Call, CallReply
from sandboxd.channel.query import (
    QueryQuestion,
    QueryReply,
    ResultColumn,
    SchemaColumn,
    SchemaQuestion,
    SchemaReply,
    TableEntry,
    TablesReply,
    decode_payload,
    encode_payload,
)
from sandboxd.guest.from_values import to_python
from tests.unit.guest.nursery import RESTRICTED, Guest, Nursery

USERS = QueryReply(
    columns=[
        ResultColumn(name="id", db_type="INTEGER"),
        ResultColumn(name="name", db_type="TEXT"),
        ResultColumn(name="id", db_type="INTEGER"),
        ResultColumn(name="price", db_type="NUMERIC"),
    ],
    data=[
        v.IntColumn(values=[1, 2**60 + 1], nulls=[]),
        v.TextColumn(values=["Ann", ""], nulls=[1]),
        v.IntColumn(values=[0, 7], nulls=[0]),
        v.ValueColumn(values=[v.DecimalValue(text="1.50"), v.NullValue()]),
    ],
    total_rows=2,
    truncated=True,
    truncated_by="rows",
    warnings=["two columns are called id"],
)


@pytest.fixture
def asking(nursery: Nursery) -> Iterator[Guest]:
    guest = nursery.spawn().configure(RESTRICTED, databases=["main"])
    guest.answer = lambda call: CallReply(call_id=call.call_id, payload=encode_payload(USERS))
    yield guest
    guest.close()


def _run(guest: Guest, source: str) -> object:
    finished = guest.run(source)
    assert finished.failure is None, finished.failure.traceback
    assert finished.value is not None
    return to_python(finished.value)


@pytest.mark.parametrize("wait", ["", "await "])
def test_rows_are_dicts_with_and_without_await(asking: Guest, wait: str) -> None:
    assert _run(asking, f"rows = {wait}db_query('SELECT 1')\nrows[0]['name'], rows[1].get('name')") == (
        "Ann",
        None,
    )


def test_rows_are_a_sequence(asking: Guest) -> None:
    code = """
import collections.abc, decimal
rows = await db_query("SELECT 1")
first, second = rows
[isinstance(rows, collections.abc.Sequence), len(rows), rows[-1] is second, rows[:1] == [first],
 rows == [first, second], rows == await db_query("SELECT 1"), second["id"] == 2 ** 60 + 1,
 first["id_2"], second["id_2"], first["price"] == decimal.Decimal("1.50"), rows.columns, rows.truncated,
 rows.truncated_by, rows.warnings, repr(rows) == repr([first, second]), bool(rows)]
"""
    assert _run(asking, code) == [
        True, 2, True, True, True, True, True, None, 7, True, ["id", "name", "id_2", "price"], True, "rows",
        ["two columns are called id"], True, True,
    ]  # fmt: skip


def test_rows_become_a_frame_of_the_right_types(asking: Guest) -> None:
    code = """
import pandas as pd
rows = db_query("SELECT 1")
frame = rows.df()
[[str(dtype) for dtype in frame.dtypes[:3]], int(frame["id"][1]), bool(frame["id_2"].isna()[0]),
 pd.DataFrame(rows).shape]
"""
    assert _run(asking, code) == [["int64", "str", "Int64"], 2**60 + 1, True, (2, 4)]


def test_rows_are_a_list_to_json(asking: Guest) -> None:
    names = USERS.columns[:2]
    reply = QueryReply(columns=names, data=USERS.data[:2], total_rows=2)
    asking.answer = lambda call: CallReply(call_id=call.call_id, payload=encode_payload(reply))
    code = "import json\nrows = db_query('SELECT 1')\njson.dumps({'rows': rows[:1]}), json.dumps(rows)"
    assert _run(asking, code) == (
        '{"rows": [{"id": 1, "name": "Ann"}]}',
        '[{"id": 1, "name": "Ann"}, {"id": 1152921504606846977, "name": null}]',
    )
    assert asking.run("json.dumps(object())").failure is not None


def test_rows_as_a_result_are_a_list_of_records(asking: Guest) -> None:
    finished = asking.run("db_query('SELECT 1')")
    assert isinstance(finished.value, v.ListValue)
    assert isinstance(finished.value.items[0], v.RecordValue)


def test_question_carries_text_parameters_and_line(asking: Guest) -> None:
    code = "from datetime import date\n\nawait db_query(':a', {'a': 1, ':b': date(2024, 1, 31)}, max_rows=5)"
    assert asking.run(code).failure is None
    (call,) = asking.messages
    assert isinstance(call, Call)
    assert (call.method, call.line) == ("query", 3)
    assert decode_payload(call.payload, QueryQuestion) == QueryQuestion(
        sql=":a",
        named=[("a", v.IntValue(value=1)), ("b", v.DateValue(text="2024-01-31"))],
        max_rows=5,
    )


def test_positional_parameters_are_kept_in_order(asking: Guest) -> None:
    asking.run("db_query('SELECT ?', [None, 'x'])")
    (call,) = asking.messages
    assert isinstance(call, Call)
    assert decode_payload(call.payload, QueryQuestion).positional == [
        v.NullValue(),
        v.TextValue(text="x", total_length=1),
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("{'a': object()}", "parameter a is a object, which no database type can hold"),
        ("5", "params is a dict or a list, not int"),
        ("'text'", "params is a dict or a list, not str"),
        ("['x' * 5_000_000]", "parameter 1 is larger than 4194304 bytes"),
    ],
)
def test_bad_parameters_are_refused_before_the_host_is_asked(
    asking: Guest, params: str, message: str
) -> None:
    failure = asking.run(f"db_query('SELECT 1', {params})").failure
    assert failure is not None
    assert failure.message == message
    assert asking.messages == []


def test_tables_and_schema_answer_plain_data(asking: Guest) -> None:
    tables = TablesReply(tables=[TableEntry(name="users"), TableEntry(name="v", kind="view")])
    schema = SchemaReply(
        table="users", columns=[SchemaColumn(name="id", db_type="INTEGER", nullable=False, primary_key=True)]
    )

    def answer(call: Call) -> CallReply:
        if call.method == "tables":
            return CallReply(call_id=call.call_id, payload=encode_payload(tables))
        assert decode_payload(call.payload, SchemaQuestion).table == "users"
        return CallReply(call_id=call.call_id, payload=encode_payload(schema))

    asking.answer = answer
    code = """
import asyncio
tables, schema = await asyncio.gather(db_tables(), db_schema("users"))
[tables, schema["columns"][0]["name"], (await db_tables()) == db_tables(), schema["columns"][0]["nullable"]]
"""
    assert _run(asking, code) == [["users", "v"], "id", True, False]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("SQL_STATEMENT_DENIED", "QueryRefused"),
        ("LIMIT_QUERY_TIME", "QueryLimitReached"),
        ("SQL_SYNTAX", "QueryFailed"),
        ("DATABASE_NOT_FOUND", "NoDatabase"),
    ],
)
def test_error_carries_reason_and_hint_and_is_a_database_error(asking: Guest, reason: str, kind: str) -> None:
    asking.answer = lambda call: CallReply(
        call_id=call.call_id, error_reason=reason, error_message="no", error_hint="do better"
    )
    code = """
try:
    await db_query("DROP TABLE users")
except DatabaseError as error:
    result = [type(error).__name__, error.reason, error.hint, str(error)]
result
"""
    assert _run(asking, code) == [kind, reason, "do better", "no (do better)"]


def test_without_a_database_the_error_says_so(guest: Guest) -> None:
    failure = guest.run("await db_query('SELECT 1')").failure
    assert failure is not None
    assert failure.type_name == "NoDatabase"
    assert failure.message.startswith("no database configured")


def test_threads_may_ask_at_the_same_time(asking: Guest) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    results = list(pool.map(lambda n: len(db_query("SELECT 1")), range(20)))
results == [2] * 20
"""
    assert _run(asking, code) is True


def test_thread_that_outlives_its_execution_is_told(asking: Guest) -> None:
    code = """
import threading
go, done, errors = threading.Event(), threading.Event(), []
def late():
    go.wait()
    try:
        db_query("SELECT 1")
    except DatabaseError as error:
        errors.append(error.reason)
    done.set()
threading.Thread(target=late).start()
"""
    assert asking.run(code).live_threads == 1
    # No execution runs when the thread asks: the host would not know whom to answer.
    assert _run(asking, "import time\nimport threading\nthreading.Timer(0.05, go.set).start()\n1") == 1
    assert _run(asking, "done.wait(5)\nerrors") in (["EXECUTION_ENDED"], [])


_Make = Callable[[Call], CallReply]


def test_answer_to_another_question_is_not_taken(asking: Guest) -> None:
    def answer(call: Call) -> CallReply:
        asking.send(CallReply(call_id=call.call_id + 1000, error_reason="X", error_message="wrong"))
        return CallReply(call_id=call.call_id, payload=encode_payload(USERS))

    asking.answer = answer
    assert _run(asking, "len(db_query('SELECT 1'))") == 2
