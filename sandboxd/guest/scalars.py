"""Values that hold no other values: which types have a typed form on the channel, and how each is read."""

import datetime
import decimal
import enum
import fractions
import pathlib
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from sandboxd.channel.values import (
    BigIntValue,
    BoolValue,
    BytesValue,
    ComplexValue,
    DateValue,
    DecimalValue,
    DescriptionValue,
    DurationValue,
    FloatValue,
    IntValue,
    LocalDatetimeValue,
    NullValue,
    TimestampValue,
    TimeValue,
    UuidValue,
    Value,
)
from sandboxd.guest.type_names import clean_text, qualified_name, type_name

if TYPE_CHECKING:
    from sandboxd.guest.describe import Describer

Convert = Callable[["Describer", Any, int], Value]

_MOST_BITS = 13_000
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_KNOWN_ZONES = ("dateutil.tz.tz", "pytz.tzinfo", "pytz")


def _integer(describer: "Describer", value: int, _depth: int) -> Value:
    name = "" if type(value) is int else type_name(type(value))
    plain = int.__index__(value)
    if INT64_MIN <= plain <= INT64_MAX:
        return IntValue(value=plain, type_name=name)
    if plain.bit_length() > _MOST_BITS or not describer.budget.fits(plain.bit_length() // 3):
        describer.budget.truncated = True
        text = f"<int of {plain.bit_length()} bits>"
        return DescriptionValue(type_name=type_name(type(value)), text=text, truncated=True)
    text = str(plain)
    describer.budget.left -= len(text)
    return BigIntValue(text=text)


def _float(_describer: "Describer", value: float, _depth: int) -> Value:
    name = "" if type(value) is float else type_name(type(value))
    return FloatValue(value=float.__float__(value), type_name=name)


def _numpy_scalar(describer: "Describer", value: Any, depth: int) -> Value:
    name = type_name(type(value))
    plain = value.item()
    match plain:
        case bool():
            return BoolValue(value=plain, type_name=name)
        case int() if type(value) not in (np.datetime64, np.timedelta64):
            return (
                IntValue(value=plain, type_name=name) if plain <= INT64_MAX else BigIntValue(text=str(plain))
            )
        case float():
            return FloatValue(value=plain, type_name=name)
        case str():
            return describer.text(plain, name)
        case bytes():
            return _bytes(describer, plain, depth)
        case complex():
            return ComplexValue(real=plain.real, imag=plain.imag)
    if type(value) is np.longdouble:
        return FloatValue(value=float(value), type_name=name)
    return _numpy_time(describer, value, depth)


def _numpy_time(describer: "Describer", value: Any, depth: int) -> Value:
    if np.isnat(value):
        return NullValue()
    try:
        moment: Any = pd.Timestamp(value) if type(value) is np.datetime64 else pd.Timedelta(value)
    except (ValueError, OverflowError):
        return describer.description(value)
    return _timestamp(describer, moment, depth) if type(value) is np.datetime64 else _timedelta(moment)


def _text(describer: "Describer", value: str, _depth: int) -> Value:
    name = "" if type(value) is str else type_name(type(value))
    return describer.text(value, name)


def _bytes(describer: "Describer", value: Any, _depth: int) -> Value:
    kind = next(each for each in (bytes, bytearray, memoryview) if issubclass(type(value), each))
    total = value.nbytes if kind is memoryview else kind.__len__(value)
    room = max(describer.budget.left, 0)
    whole = value.tobytes() if kind is memoryview else kind.__getitem__(value, slice(0, room))
    data = bytes(whole[:room])
    if len(data) < total:
        describer.budget.truncated = True
    describer.budget.left -= len(data)
    name = "" if type(value) is bytes else type_name(type(value))
    return BytesValue(data=data, total_length=total, type_name=name)


def _decimal(describer: "Describer", value: Any, _depth: int) -> Value:
    text = decimal.Decimal.__str__(value)
    describer.budget.left -= len(text)
    return DecimalValue(text=text)


def _offset(value: Any) -> datetime.timedelta | None:
    """The offset from UTC, asked of zones of the standard library and of dateutil and pytz only."""
    zone = datetime.datetime.tzinfo.__get__(value)
    kind = type(zone)
    if kind in (datetime.timezone, ZoneInfo) or kind.__module__ in _KNOWN_ZONES:
        return datetime.datetime.utcoffset(value)
    return None


def _datetime(describer: "Describer", value: Any, _depth: int) -> Value:
    plain = datetime.datetime.replace(value, tzinfo=None)
    if datetime.datetime.tzinfo.__get__(value) is None:
        return LocalDatetimeValue(text=datetime.datetime.isoformat(plain))
    offset = _offset(value)
    if offset is None:
        return describer.description(value)
    since = plain.replace(tzinfo=datetime.UTC) - offset - _EPOCH
    return TimestampValue(
        seconds=since.days * 86400 + since.seconds,
        nanos=since.microseconds * 1000,
        offset_seconds=int(offset.total_seconds()),
    )


def _timestamp(describer: "Describer", value: Any, _depth: int) -> Value:
    """pandas' own, with nanoseconds."""
    if value.tzinfo is None:
        return LocalDatetimeValue(text=value.isoformat())
    offset = _offset(value)
    if offset is None:
        return describer.description(value)
    seconds, nanos = divmod(value.as_unit("ns").value, 1_000_000_000)
    return TimestampValue(seconds=seconds, nanos=nanos, offset_seconds=int(offset.total_seconds()))


def _timedelta(value: datetime.timedelta) -> Value:
    micros = (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds
    if not INT64_MIN <= micros <= INT64_MAX:
        text = datetime.timedelta.__str__(value)
        return DescriptionValue(type_name=type_name(type(value)), text=text, truncated=False)
    return DurationValue(micros=micros)


def _time(describer: "Describer", value: Any, _depth: int) -> Value:
    if value.tzinfo is not None and type(value.tzinfo) is not datetime.timezone:
        return describer.description(value)
    return TimeValue(text=datetime.time.isoformat(value))


def _fraction(describer: "Describer", value: Any, _depth: int) -> Value:
    numerator, denominator = value._numerator, value._denominator
    if max(numerator.bit_length(), denominator.bit_length()) > _MOST_BITS // 2:
        return describer.description(value)
    return DescriptionValue(
        type_name="fractions.Fraction", text=f"{numerator}/{denominator}", truncated=False
    )


def _enum(describer: "Describer", value: Any, _depth: int) -> Value:
    kind = type(value)
    name = object.__getattribute__(value, "__dict__").get("_name_")
    text = f"{qualified_name(kind)}.{name if type(name) is str else '?'}"
    describer.budget.left -= len(text)
    if issubclass(kind, int):
        return _integer(describer, value, 0)
    if issubclass(kind, str):
        return _text(describer, value, 0)
    return DescriptionValue(type_name=type_name(kind), text=clean_text(text, 300), truncated=False)


_NUMPY_SCALARS = (
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16,
    np.float32, np.float64, np.longdouble, np.complex64, np.complex128, np.datetime64, np.timedelta64,
    np.str_, np.bytes_, np.longlong, np.ulonglong,
)  # fmt: skip

SCALARS: dict[type, Convert] = {
    type(None): lambda *_: NullValue(),
    bool: lambda _describer, value, _depth: BoolValue(value=value),
    int: _integer,
    float: _float,
    str: _text,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    complex: lambda _describer, value, _depth: ComplexValue(real=value.real, imag=value.imag),
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    uuid.UUID: lambda _describer, value, _depth: UuidValue(text=uuid.UUID.__str__(value)),
    datetime.datetime: _datetime,
    datetime.date: lambda _describer, value, _depth: DateValue(text=datetime.date.isoformat(value)),
    datetime.time: _time,
    datetime.timedelta: lambda _describer, value, _depth: _timedelta(value),
    pd.Timestamp: _timestamp,
    pd.Timedelta: lambda _describer, value, _depth: _timedelta(value),
    type(pd.NaT): lambda *_: NullValue(),
    type(pd.NA): lambda *_: NullValue(),
    pathlib.PosixPath: lambda describer, value, _depth: describer.text(str(value), "pathlib.PosixPath"),
    **dict.fromkeys(_NUMPY_SCALARS, _numpy_scalar),
}
"""Types whose values hold no other values."""

BASES: tuple[tuple[type, Convert], ...] = (
    (enum.Enum, _enum),
    (int, _integer),
    (float, _float),
    (str, _text),
    (bytes, _bytes),
    (decimal.Decimal, _decimal),
)
"""Read through the one they derive from; the first that fits."""

LEAF_BASES = tuple(base for base, _ in BASES)
"""The types of `BASES`, for issubclass."""
