"""Turns a typed parameter into what the engine takes for the type it expects, or says what would fit."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple
from uuid import UUID

from sandboxd.channel import values
from sandboxd.channel.values import Value
from sandboxd.database.worker.refusal import Layer, Reason, Refusal

_INT64 = range(-(2**63), 2**63)


class Interval(NamedTuple):
    """An SQL interval as its three parts."""

    months: int
    days: int
    micros: int


class JsonText(str):
    """A JSON document that is to stay text on this side."""

    __slots__ = ()


def plain(value: Value) -> Any:  # noqa: C901, PLR0912  # one line a type
    """The Python object that a parameter stands for."""
    match value:
        case values.NullValue():
            return None
        case values.BoolValue(value=inner) | values.IntValue(value=inner) | values.FloatValue(value=inner):
            return inner
        case values.BigIntValue(text=text):
            return int(text) if len(text) <= 1000 else Decimal(text)
        case values.DecimalValue(text=text):
            return Decimal(text)
        case values.TextValue(text=text):
            return text
        case values.BytesValue(data=data):
            return data
        case values.TimestampValue():
            zone = timezone(timedelta(seconds=value.offset_seconds))
            return datetime.fromtimestamp(0, UTC).astimezone(zone) + timedelta(
                seconds=value.seconds, microseconds=value.nanos // 1000
            )
        case values.LocalDatetimeValue(text=text):
            return datetime.fromisoformat(text)
        case values.DateValue(text=text):
            return date.fromisoformat(text)
        case values.TimeValue(text=text):
            return time.fromisoformat(text)
        case values.DurationValue(micros=micros):
            return timedelta(microseconds=micros)
        case values.IntervalValue():
            return Interval(value.months, value.days, value.micros)
        case values.UuidValue(text=text):
            return UUID(text)
        case values.JsonValue(text=text):
            return JsonText(text)
        case values.ListValue(items=items) | values.TupleValue(items=items) | values.SetValue(items=items):
            return [plain(item) for item in items]
        case values.RecordValue(fields=fields):
            return {name: plain(item) for name, item in fields}
        case _:
            raise TypeError(type(value).__name__)


def unpack(name: str, value: Value) -> Any:
    """`plain`, with a refusal that names the parameter."""
    try:
        return plain(value)
    except (TypeError, ValueError, OverflowError, InvalidOperation):
        kind = getattr(value, "type_name", "") or type(value).__name__.removesuffix("Value").lower()
        raise mismatch(name, kind, "a plain value", '42, "text" or a datetime') from None


def mismatch(name: str, given: str, expected: str, example: str) -> Refusal:
    """What does not fit without loss."""
    shown = name if name.isdigit() else f":{name}"
    return Refusal(
        Reason.PARAMETER,
        Layer.PARAMETERS,
        f"parameter {shown} must be {expected}, not {given}",
        hint=f"for example {example}",
        parameter=name,
        expected=expected,
        example=example,
    )


def described(value: Any) -> str:
    """A value in an error: its type and, for short text, what it says."""
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return f"{type(value).__name__}"


def json_text(value: Any) -> str:
    """A value as JSON: dicts and lists of plain values; times and decimals as text."""
    return json.dumps(value, default=str, ensure_ascii=False, allow_nan=False)


_DATETIME = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?( ?(Z|z|[+-]\d{2}(:?\d{2})?))?)?"
)


def parse_datetime(text: str) -> datetime | date | None:
    """An ISO 8601 date or date and time; None when the text is neither."""
    text = text.strip()
    if not _DATETIME.fullmatch(text):
        return None
    try:
        return (
            date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text.replace(" +", "+"))
        )
    except ValueError:
        return None


# --- PostgreSQL --------------------------------------------------------------------------------


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


def _to_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False, "t": True, "f": False}.get(value.strip().lower())
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
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
    "bool": _Target(_to_bool, "a truth value", "true"),
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
_RANGES = {"int2": range(-(2**15), 2**15), "int4": range(-(2**31), 2**31), "int8": _INT64}


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


# --- SQLite ------------------------------------------------------------------------------------


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
    if isinstance(value, int) and value not in _INT64:
        raise mismatch(name, f"{str(value)[:40]}", "an integer of at most 64 bits", "42")
    if isinstance(value, str) and kind in {"BOOLEAN", "BOOL"}:
        converted = _to_bool(value)
        return value if converted is None else int(converted)
    return value
