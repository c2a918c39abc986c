"""Whole programs of the kind that agents send: database rows in, a result out."""

import datetime
from collections.abc import Iterator

import pytest

from sandboxd.channel import values as v
from sandboxd.channel.messages import Call, CallReply, LogEntry
from sandboxd.channel.query import QueryQuestion, QueryReply, ResultColumn, decode_payload, encode_payload
from sandboxd.guest.from_values import to_python
from tests.unit.guest.nursery import RESTRICTED, Guest, Nursery

_TABLES = {
    "user_activities": {
        "user_id": v.IntColumn(values=[1, 1, 2], nulls=[]),
        "action": v.TextColumn(values=["read", "read", "write"], nulls=[]),
    },
    "documents": {
        "id": v.IntColumn(values=[7], nulls=[]),
        "title": v.TextColumn(values=["About"], nulls=[]),
        "content": v.TextColumn(
            values=["Mail ann@example.org or call 555-123-4567 about networks"], nulls=[]
        ),
    },
    "pipeline_input": {
        "id": v.IntColumn(values=[1, 2], nulls=[]),
        "content": v.TextColumn(values=["text", ""], nulls=[1]),
    },
}


def _answer(call: Call) -> CallReply:
    sql = decode_payload(call.payload, QueryQuestion).sql
    if sql.startswith("UPDATE"):
        reply = QueryReply(columns=[], data=[], total_rows=0, affected=1)
    else:
        table = next(columns for name, columns in _TABLES.items() if name in sql)
        names = [ResultColumn(name=name, db_type="TEXT") for name in table]
        count = len(next(iter(table.values())).values)
        reply = QueryReply(columns=names, data=list(table.values()), total_rows=count)
    return CallReply(call_id=call.call_id, payload=encode_payload(reply))


@pytest.fixture
def asking(nursery: Nursery) -> Iterator[Guest]:
    guest = nursery.spawn().configure(RESTRICTED, databases=["main"])
    guest.answer = _answer
    yield guest
    guest.close()


def _run(guest: Guest, source: str) -> dict[str, object]:
    finished = guest.run(source)
    assert finished.failure is None, finished.failure.traceback
    assert finished.value is not None
    result = to_python(finished.value)
    assert isinstance(result, dict)
    return result


def test_activity_analysis_counts_actions_of_each_user(asking: Guest) -> None:
    result = _run(
        asking,
        """
activities = await db_query('SELECT user_id, action FROM user_activities')
debug(f'Analysing {len(activities)} activities', 'INFO')
patterns = {}
for activity in activities:
    actions = patterns.setdefault(activity['user_id'], {})
    actions[activity['action']] = actions.get(activity['action'], 0) + 1
most_active = sorted(patterns.items(), key=lambda pair: sum(pair[1].values()), reverse=True)[:10]
__result__ = {
    'total': len(activities),
    'users': len(patterns),
    'most_active': most_active,
    'at': datetime.utcnow().isoformat(),
}
""",
    )
    assert datetime.datetime.fromisoformat(str(result.pop("at")))
    assert result == {"total": 3, "users": 2, "most_active": [(1, {"read": 2}), (2, {"write": 1})]}
    assert [each.message for each in asking.messages if isinstance(each, LogEntry)] == [
        "Analysing 3 activities"
    ]
    assert asking.output("stderr") == ""


def test_extraction_reads_documents_and_marks_them(asking: Guest) -> None:
    result = _run(
        asking,
        r"""
import re
from collections import Counter

found = []
for doc in await db_query('SELECT id, title, content FROM documents LIMIT 20'):
    content = doc['content']
    words = re.findall(r'\b\w+\b', content.lower())
    found.append({
        'id': doc['id'],
        'emails': re.findall(r'\b[\w.+-]+@[\w.-]+\.[A-Za-z]{2,}\b', content),
        'phones': re.findall(r'\b\d{3}[-.]?\d{3}[-.]?\d{4}\b', content),
        'keywords': [word for word, _ in Counter(words).most_common(20) if len(word) > 6],
    })
    await db_query('UPDATE documents SET processed = true WHERE id = :id', {'id': doc['id']})
__result__ = {'found': found}
""",
    )
    assert result["found"] == [
        {
            "id": 7,
            "emails": ["ann@example.org"],
            "phones": ["555-123-4567"],
            "keywords": ["example", "networks"],
        }
    ]
    calls = [each for each in asking.messages if isinstance(each, Call)]
    assert decode_payload(calls[1].payload, QueryQuestion).named == [("id", v.IntValue(value=7))]


def test_pipeline_check_returns_its_own_debug_summary(asking: Guest) -> None:
    result = _run(
        asking,
        """
try:
    rows = await db_query('SELECT * FROM pipeline_input LIMIT 5')
    inspect_var('rows', rows)
    processed = []
    for item in rows:
        if 'content' in item and item['content']:
            processed.append({'id': item['id'], 'content_length': len(item['content'])})
        else:
            debug(f'Missing content for item {item["id"]}', 'WARNING')
    __result__ = {'valid': len(processed), 'debug_summary': get_debug_info()}
except Exception as e:
    __result__ = {'error': str(e), 'debug_summary': get_debug_info()}
""",
    )
    assert result["valid"] == 1
    summary = result["debug_summary"]
    assert isinstance(summary, dict)
    assert summary["by_level"]["WARNING"] == 1
    assert summary["variables"]["rows"]["summary"] == "Rows: 2 of 2 columns [id, content]"
