"""What the database room records comes back as it was, through the store."""

from datetime import UTC, datetime

import pytest

from sandboxd.database.audit import AuditFilter, QueryRecord, RecordedParameter, Verdict
from sandboxd.database.store_audit import StoreAudit
from sandboxd.store.store import StoreSettings, open_store

ENTRY = QueryRecord(
    id="qry_1",
    time=datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC),
    principal="local",
    user_id="1",
    sandbox_id="sbx_1",
    database="main",
    sql="SELECT '\0' -- \u20ac",
    verdict=Verdict.CANCELLED,
    origin="sandbox",
    execution_id="exe_1",
    line=7,
    sql_truncated=True,
    bridged_sql="SELECT 1",
    fingerprint="f",
    kind="SELECT",
    tables=("users",),
    written_columns=("a", "b"),
    functions=("now",),
    parameters=(RecordedParameter(name="id", type_name="int", size_bytes=8),),
    layer="guard",
    reason="R",
    message="m",
    sqlstate="42P01",
    rows=1,
    size_bytes=2,
    affected=3,
    truncated_by="rows",
    queue_us=4,
    check_us=5,
    engine_us=6,
    worker_pid=7,
)


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_an_audit_record_comes_back_whole(settings: StoreSettings, verdict: Verdict) -> None:
    entry = QueryRecord(**{name: getattr(ENTRY, name) for name in ENTRY.__slots__} | {"verdict": verdict})
    async with open_store(settings) as store:
        audit = StoreAudit(store.queries)
        await audit.record(entry)
        found, token = await audit.list(
            AuditFilter(principal="local", verdicts=frozenset({verdict})), page_size=5
        )
        others, _ = await audit.list(
            AuditFilter(principal="local", verdicts=frozenset(set(Verdict) - {verdict})), page_size=5
        )
    assert (found, token) == ([entry], "")
    assert others == []
