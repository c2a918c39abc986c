"""Turns a parameter into what PostgreSQL takes for the type it expects; what would be lost is refused."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple
from uuid import UUID

from sandboxd.database.worker.parameters import (
    INT64,
    Interval,
    JsonText,
    described,
    json_text,
    mismatch,
    parse_datetime,
    truth,
)


def _to_datetime(value: Any, *, zoned: bool) -> datetime | None:
    if isinstance(value, str):
        value = parse_datetime(value)
    if isinstance(value, datetime):
        if zoned:
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC if zoned else None)
    return None


def _to_date(value: Any) -> date | None:
    if isinstance(value, str):
        value = parse_datetime(value)
    if isinstance(value, datetime):
        return value.date() if value.time() == time() else None
    return value if isinstance(value, date) else None


def _to_time(value: Any) -> time | None:
    if isinstance(value, str):
        try:
            return time.fromisoformat(value.strip())
        except ValueError:
            return None
    return value if isinstance(value, time) else None


def _to_int(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float | Decimal):
        return int(value) if value == value.__trunc__() else None
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,40}\s*", value):
        return int(value)
    return None


def _to_float(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else None


def _to_decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, int | Decimal | str):
        try:
            return Decimal(value)
        except InvalidOperation:
            return None
    return None


def _to_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, int | float | Decimal | UUID | date | time):
        return str(value)
    return json_text(value) if isinstance(value, dict | list) else None


def _to_json(value: Any) -> str | None:
    if isinstance(value, JsonText):
        return str(value)
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return json_text(value)
        return value
    try:
        return json_text(value)
    except (TypeError, ValueError):
        return None


def _to_uuid(value: Any) -> UUID | None:
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        return None


def _to_bytes(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else None


def _to_interval(value: Any) -> tuple[int, int, int] | None:
    if isinstance(value, Interval):
        return (value.months, value.days, value.micros)
    if isinstance(value, timedelta):
        return (0, value.days, value.seconds * 1_000_000 + value.microseconds)
    return None


class _Target(NamedTuple):
    convert: Callable[[Any], Any]
    expected: str
    example: str


def _timestamp(value: Any) -> datetime | None:
    return _to_datetime(value, zoned=False)


def _timestamptz(value: Any) -> datetime | None:
    return _to_datetime(value, zoned=True)


_INTEGER = _Target(_to_int, "an integer", "42")
_FLOAT = _Target(_to_float, "a number", "1.5")
_TEXT = _Target(_to_text, "text", '"abc"')
_JSON = _Target(_to_json, "a JSON value", '{"a": 1}')
_POSTGRES_TARGETS: dict[str, _Target] = {
    "int2": _INTEGER,
    "int4": _INTEGER,
    "int8": _INTEGER,
    "oid": _INTEGER,
    "float4": _FLOAT,
    "float8": _FLOAT,
    "numeric": _Target(_to_decimal, "a number", '"12.50"'),
    "bool": _Target(truth, "a truth value", "true"),
    "text": _TEXT,
    "varchar": _TEXT,
    "bpchar": _TEXT,
    "name": _TEXT,
    "unknown": _TEXT,
    "timestamp": _Target(_timestamp, "a date and time", '"2024-01-31 12:30:00"'),
    "timestamptz": _Target(_timestamptz, "a date and time", '"2024-01-31T12:30:00+00:00"'),
    "date": _Target(_to_date, "a date", '"2024-01-31"'),
    "time": _Target(_to_time, "a time of day", '"12:30:00"'),
    "timetz": _Target(_to_time, "a time of day", '"12:30:00+00:00"'),
    "interval": _Target(_to_interval, "a timedelta", "timedelta(days=7)"),
    "json": _JSON,
    "jsonb": _JSON,
    "uuid": _Target(_to_uuid, "a UUID", '"123e4567-e89b-12d3-a456-426614174000"'),
    "bytea": _Target(_to_bytes, "bytes", 'b"abc"'),
}
_RANGES = {"int2": range(-(2**15), 2**15), "int4": range(-(2**31), 2**31), "int8": INT64}


def for_postgres(name: str, value: Any, type_name: str) -> Any:
    """`value` for a parameter that the server wants as `type_name`; raises `Refusal` on loss."""
    if value is None:
        return None
    if type_name.endswith("[]"):
        if not isinstance(value, list):
            raise mismatch(name, described(value), f"a list ({type_name})", "[1, 2, 3]")
        return [for_postgres(name, item, type_name[:-2]) for item in value]
    target = _POSTGRES_TARGETS.get(type_name)
    if target is None:
        return value if isinstance(value, str) else _to_text(value)
    converted = target.convert(value)
    if converted is None or ("\0" in converted if isinstance(converted, str) else False):
        raise mismatch(name, described(value), f"{target.expected} ({type_name})", target.example)
    if type_name in _RANGES and converted not in _RANGES[type_name]:
        text = f"an integer from {_RANGES[type_name].start} to {_RANGES[type_name].stop - 1} ({type_name})"
        raise mismatch(name, str(value)[:60], text, target.example)
    return converted
