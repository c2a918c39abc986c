"""Turns a parameter into what this service keeps in SQLite; what would be lost is refused."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from sandboxd.database.worker.parameters import (
    INT64,
    described,
    json_text,
    mismatch,
    parse_datetime,
    truth,
)


def sqlite_timestamp(value: datetime) -> str:
    """A date and time as this service keeps it in SQLite: UTC, no zone, a blank between the two."""
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return value.isoformat(" ")


def for_sqlite(name: str, value: Any, declared: str) -> Any:  # noqa: C901  # one line a type
    """`value` for SQLite, compared with a column declared as `declared` (empty when unknown)."""
    kind = declared.upper().split("(")[0].strip()
    if isinstance(value, str) and kind in {"TIMESTAMP", "DATETIME", "TIMESTAMPTZ", "DATE"}:
        parsed = parse_datetime(value)
        if parsed is None:
            example = '"2024-01-31"' if kind == "DATE" else '"2024-01-31 12:30:00"'
            raise mismatch(name, described(value), f"a date ({declared.lower()})", example)
        value = parsed
    if value is None or isinstance(value, int | float | str | bytes):
        return _sqlite_scalar(name, value, kind)
    if isinstance(value, datetime):
        if kind == "DATE" and value.time() == time():
            return value.date().isoformat()
        return sqlite_timestamp(value)
    if isinstance(value, date):
        return value.isoformat() if kind in {"", "DATE"} else f"{value.isoformat()} 00:00:00"
    if isinstance(value, time | UUID):
        return str(value)
    if isinstance(value, Decimal):
        number = float(value)
        if Decimal(repr(number)) != value:
            raise mismatch(name, f"{value!s:.40}", "a number of at most 15 digits", "12.5")
        return number
    if isinstance(value, dict | list):
        return json_text(value)
    raise mismatch(name, described(value), "a value SQLite can store", '42, "text" or a datetime')


def _sqlite_scalar(name: str, value: Any, kind: str) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and value not in INT64:
        raise mismatch(name, f"{str(value)[:40]}", "an integer of at most 64 bits", "42")
    if isinstance(value, str) and kind in {"BOOLEAN", "BOOL"}:
        converted = truth(value)
        return value if converted is None else int(converted)
    return value
