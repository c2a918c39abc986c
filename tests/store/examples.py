"""Records as the tests need them."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from sandboxd.store.records import (
    ExecutionOutcome,
    ExecutionRecord,
    ExecutionState,
    PhaseDurations,
    QueryRecord,
    QueryVerdict,
    SandboxRecord,
    SandboxState,
)
from sandboxd.store.retention import RetentionPolicy

KEEP_ALL = RetentionPolicy(max_age=None, query_max_age=None, executions_per_user=None, bytes_per_user=None)
"""The records of the tests are of a fixed day, which gets older."""
START = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count()


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def an_execution(**changes: Any) -> ExecutionRecord:
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"exe_{number:06d}",
        "sandbox_id": "sbx_1",
        "owner": "ada",
        "user_id": "1",
        "state": ExecutionState.RUNNING,
        "create_time": moment(number),
        "code": "print(1 + 1)",
    }
    return ExecutionRecord(**(values | changes))


def an_outcome(**changes: Any) -> ExecutionOutcome:
    values: dict[str, Any] = {
        "state": ExecutionState.SUCCEEDED,
        "start_time": moment(1),
        "end_time": moment(2),
        "result": b"\x00\x01result",
        "stdout": b"2\n\xff",
        "stderr": b"",
        "log": b"log",
        "usage": '{"cpu_us": 5}',
        "phases": PhaseDurations(queue_us=10, start_us=20, run_us=30, end_us=40),
        "trace_reference": "trace-1",
    }
    return ExecutionOutcome(**(values | changes))


def a_sandbox(**changes: Any) -> SandboxRecord:
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"sbx_{number:06d}",
        "owner": "ada",
        "user_id": "1",
        "state": SandboxState.ACTIVE,
        "create_time": moment(number),
        "expire_time": moment(number + 900),
        "limits": '{"memory_bytes": 1}',
    }
    return SandboxRecord(**(values | changes))


def a_query(**changes: Any) -> QueryRecord:
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"qry_{number:06d}",
        "owner": "ada",
        "user_id": "1",
        "time": moment(number),
        "database": "main",
        "sql": "SELECT 1",
        "verdict": QueryVerdict.COMPLETED,
        "execution_id": "exe_1",
        "tables": ("users",),
        "rows": 1,
    }
    return QueryRecord(**(values | changes))
