"""What a parameter stands for as a Python object, and how one that does not fit is refused."""

import json
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple
from uuid import UUID

from sandboxd.channel import values
from sandboxd.channel.values import Value
from sandboxd.database.worker.refusal import Layer, Reason, Refusal

INT64 = range(-(2**63), 2**63)
"""What both engines take for an integer at most."""


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


def truth(value: Any) -> bool | None:
    """The truth value that a bool, 0, 1 or a word such as "true" stands for; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "false": False, "t": True, "f": False}.get(value.strip().lower())
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    return None
