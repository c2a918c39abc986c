"""PostgreSQL functions that SQLite lacks, registered under their own names; part of the published bridge."""

import hashlib
import math
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

_FORMAT = "%Y-%m-%d %H:%M:%S"


class StatementClock:
    """The time at which the running statement began: `now()` is the same in all of it."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def start(self) -> None:
        """Called as each statement begins."""
        self._now = datetime.now(UTC)

    def text(self) -> str:
        """The instant as SQLite columns keep it."""
        return self._now.replace(tzinfo=None).isoformat(" ")


def timestamp_of(value: Any) -> datetime | None:
    """Text of a SQLite column as a moment in UTC; None for NULL, ValueError for anything else."""
    if value is None:
        return None
    moment = datetime.fromisoformat(str(value))
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _text(moment: datetime) -> str:
    return moment.isoformat(" ")


def date_trunc(field: str | None, value: Any) -> str | None:
    """The start of the second, minute, hour, day, week, month, quarter, year that holds `value`."""
    moment = timestamp_of(value)
    if moment is None or field is None:
        return None
    name = field.lower()
    if name in ("second", "minute", "hour", "day"):
        kept = {"second": 6, "minute": 5, "hour": 4, "day": 3}[name]
        return _text(datetime(*moment.timetuple()[:kept]))  # type: ignore[arg-type]  # noqa: DTZ001  # UTC by contract
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if name == "week":
        return _text(start - timedelta(days=start.weekday()))
    if name == "month":
        return _text(start.replace(day=1))
    if name == "quarter":
        return _text(start.replace(day=1, month=(start.month - 1) // 3 * 3 + 1))
    if name == "year":
        return _text(start.replace(day=1, month=1))
    raise ValueError(f"date_trunc: unit {field!r} is not supported")


def date_part(field: str | None, value: Any) -> float | int | None:
    """A part of a moment, numbered as PostgreSQL does."""
    moment = timestamp_of(value)
    if moment is None or field is None:
        return None
    name = field.lower()
    parts: dict[str, Callable[[datetime], float | int]] = {
        "year": lambda at: at.year,
        "month": lambda at: at.month,
        "day": lambda at: at.day,
        "hour": lambda at: at.hour,
        "minute": lambda at: at.minute,
        "second": lambda at: at.second + at.microsecond / 1e6 if at.microsecond else at.second,
        "quarter": lambda at: (at.month - 1) // 3 + 1,
        "week": lambda at: at.isocalendar().week,
        "isoyear": lambda at: at.isocalendar().year,
        "dow": lambda at: at.isoweekday() % 7,
        "isodow": lambda at: at.isoweekday(),
        "doy": lambda at: at.timetuple().tm_yday,
        "epoch": _epoch,
    }
    if name not in parts:
        raise ValueError(f"extract: field {field!r} is not supported")
    return parts[name](moment)


def _epoch(moment: datetime) -> float | int:
    seconds = moment.replace(tzinfo=UTC).timestamp()
    return int(seconds) if seconds.is_integer() else seconds


def add_interval(value: Any, months: int, days: int, micros: int) -> str | None:
    """A moment moved by an interval: months first, the day cut to the month's last, as PostgreSQL does."""
    moment = timestamp_of(value)
    if moment is None:
        return None
    if months:
        year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
        last = (date(year + (month == 11), (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
        moment = moment.replace(year=year, month=month + 1, day=min(moment.day, last))
    return _text(moment + timedelta(days=days, microseconds=micros))


def add_days(value: Any, days: int) -> str | None:
    """A date moved by whole days."""
    moment = timestamp_of(value)
    return None if moment is None or days is None else (moment.date() + timedelta(days=days)).isoformat()


def to_date(value: Any) -> str | None:
    """The date of a moment: `x::date`."""
    moment = timestamp_of(value)
    return None if moment is None else moment.date().isoformat()


def to_timestamp_text(value: Any) -> str | None:
    """A date or moment as a moment: `x::timestamp`."""
    moment = timestamp_of(value)
    return None if moment is None else _text(moment)


def to_integer(value: Any) -> int | None:
    """`x::int` rounds, where SQLite's CAST cuts."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return round(value)
    return int(str(value).strip())


def to_boolean(value: Any) -> int | None:
    """`x::boolean`."""
    if value is None or isinstance(value, int):
        return None if value is None else int(bool(value))
    texts = {"true": 1, "t": 1, "yes": 1, "on": 1, "1": 1, "false": 0, "f": 0, "no": 0, "off": 0, "0": 0}
    return texts[str(value).strip().lower()]


def _left(value: Any, count: int | None) -> str | None:
    if value is None or count is None:
        return None
    return str(value)[:count]


def _right(value: Any, count: int | None) -> str | None:
    if value is None or count is None:
        return None
    text = str(value)
    return text[max(0, len(text) - count) :] if count >= 0 else text[-count:]


def _substring(value: Any, start: int | None, length: int | None = None) -> str | None:
    """Counts from 1; what lies before it is counted too, as in PostgreSQL."""
    if value is None or start is None:
        return None
    text = str(value)
    if length is None:
        return text[max(start - 1, 0) :]
    if length < 0:
        raise ValueError("negative substring length")
    return text[max(start - 1, 0) : max(start - 1 + length, 0)]


def _regexp(pattern: str | None, value: Any, *, flags: int = 0) -> int | None:
    if pattern is None or value is None:
        return None
    return int(re.search(pattern, str(value), flags) is not None)


def _regexp_insensitive(pattern: str | None, value: Any) -> int | None:
    return _regexp(pattern, value, flags=re.IGNORECASE)


def _regexp_replace(value: Any, pattern: str | None, replacement: str | None, flags: str = "") -> str | None:
    if value is None or pattern is None or replacement is None:
        return None
    options = re.IGNORECASE if "i" in flags else 0
    return re.sub(pattern, replacement, str(value), count=0 if "g" in flags else 1, flags=options)


def _split_part(value: Any, separator: str | None, position: int | None) -> str | None:
    if value is None or separator is None or position is None:
        return None
    if position == 0:
        raise ValueError("split_part: field position must not be zero")
    parts = str(value).split(separator) if separator else [str(value)]
    index = position - 1 if position > 0 else len(parts) + position
    return parts[index] if 0 <= index < len(parts) else ""


def _concat(*parts: Any) -> str:
    return "".join(str(part) for part in parts if part is not None)


def _concat_ws(separator: str | None, *parts: Any) -> str | None:
    return None if separator is None else separator.join(str(part) for part in parts if part is not None)


def _initcap(value: Any) -> str | None:
    return None if value is None else re.sub(r"[^\W_]+", lambda word: word.group().capitalize(), str(value))


def _md5(value: Any) -> str | None:
    if value is None:
        return None
    data = value if isinstance(value, bytes) else str(value).encode()
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _greatest(*parts: Any) -> Any:
    present = [part for part in parts if part is not None]
    return max(present) if present else None


def _least(*parts: Any) -> Any:
    present = [part for part in parts if part is not None]
    return min(present) if present else None


def _lpad(value: Any, length: int, fill: str = " ") -> str | None:
    if value is None or length is None or not fill:
        return None if value is None else str(value)
    text = str(value)[: max(length, 0)]
    missing = min(length, 100_000) - len(text)
    return (fill * missing)[:missing] + text if missing > 0 else text


def _reverse(value: Any) -> str | None:
    return None if value is None else str(value)[::-1]


class _Spread:
    """stddev and variance by Welford's method."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def step(self, value: float | None) -> None:
        if value is None:
            return
        self._count += 1
        delta = value - self._mean
        self._mean += delta / self._count
        self._squares += delta * (value - self._mean)

    def variance(self) -> float | None:
        return self._squares / (self._count - 1) if self._count > 1 else None


class Variance(_Spread):
    """variance(x), the sample's."""

    def finalize(self) -> float | None:
        return self.variance()


class Stddev(_Spread):
    """stddev(x), the sample's."""

    def finalize(self) -> float | None:
        variance = self.variance()
        return None if variance is None else math.sqrt(variance)


class BoolAnd:
    """bool_and(x)."""

    def __init__(self) -> None:
        self._seen: list[bool] = []

    def step(self, value: Any) -> None:
        if value is not None:
            self._seen = [bool(value) and all(self._seen)]

    def finalize(self) -> int | None:
        return int(self._seen[0]) if self._seen else None


class BoolOr(BoolAnd):
    """bool_or(x)."""

    def step(self, value: Any) -> None:
        if value is not None:
            self._seen = [bool(value) or any(self._seen)]


class StringAgg:
    """string_agg(x, separator)."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def step(self, value: Any, separator: str | None) -> None:
        if value is not None:
            if self._parts:
                self._parts.append(separator or "")
            self._parts.append(str(value))

    def finalize(self) -> str | None:
        return "".join(self._parts) if self._parts else None


_SCALARS: tuple[tuple[str, int, Callable[..., Any]], ...] = (
    ("date_trunc", 2, date_trunc),
    ("date_part", 2, date_part),
    ("bridge_add_interval", 4, add_interval),
    ("bridge_add_days", 2, add_days),
    ("bridge_date", 1, to_date),
    ("bridge_timestamp", 1, to_timestamp_text),
    ("bridge_integer", 1, to_integer),
    ("bridge_boolean", 1, to_boolean),
    ("bridge_left", 2, _left),
    ("bridge_right", 2, _right),
    ("bridge_substring", 2, _substring),
    ("bridge_substring", 3, _substring),
    ("regexp", 2, _regexp),
    ("bridge_iregexp", 2, _regexp_insensitive),
    ("regexp_replace", 3, _regexp_replace),
    ("regexp_replace", 4, _regexp_replace),
    ("split_part", 3, _split_part),
    ("concat", -1, _concat),
    ("concat_ws", -1, _concat_ws),
    ("initcap", 1, _initcap),
    ("md5", 1, _md5),
    ("greatest", -1, _greatest),
    ("least", -1, _least),
    ("lpad", 2, _lpad),
    ("lpad", 3, _lpad),
    ("reverse", 1, _reverse),
)
_AGGREGATES: tuple[tuple[str, int, type], ...] = (
    ("stddev", 1, Stddev),
    ("stddev_samp", 1, Stddev),
    ("variance", 1, Variance),
    ("var_samp", 1, Variance),
    ("bool_and", 1, BoolAnd),
    ("bool_or", 1, BoolOr),
    ("every", 1, BoolAnd),
    ("string_agg", 2, StringAgg),
)
REGISTERED = frozenset([name for name, *_ in (*_SCALARS, *_AGGREGATES)] + ["now"])
"""Names the guard and the authorizer let through beside SQLite's own."""


def register(connection: sqlite3.Connection, clock: StatementClock) -> None:
    """Gives `connection` the functions above."""
    connection.create_function("now", 0, clock.text)
    for name, arity, function in _SCALARS:
        connection.create_function(name, arity, function, deterministic=True)
    for name, arity, aggregate in _AGGREGATES:
        connection.create_aggregate(name, arity, aggregate)
