"""Typed values of Python's own objects: what each type becomes."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import types
import uuid
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from sandboxd.channel import values as v
from tests.unit.guest.described import text_value, value_of


class Color(enum.Enum):
    RED = 1


class Weight(enum.IntEnum):
    HEAVY = 9


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


class MyInt(int):
    pass


class MyDict(dict[str, int]):
    pass


HOUR = datetime.timedelta(hours=1)

CASES: dict[str, tuple[Any, v.Value]] = {
    "None": (None, v.NullValue()),
    "bool": (True, v.BoolValue(value=True)),
    "int": (-5, v.IntValue(value=-5)),
    "int of 64 bits": (2**63 - 1, v.IntValue(value=2**63 - 1)),
    "int beyond 64 bits": (-(2**63) - 1, v.BigIntValue(text=str(-(2**63) - 1))),
    "int subclass": (MyInt(4), v.IntValue(value=4, type_name=f"{__name__}.MyInt")),
    "float": (1.5, v.FloatValue(value=1.5)),
    "infinity": (math.inf, v.FloatValue(value=math.inf)),
    "complex": (1 + 2j, v.ComplexValue(real=1.0, imag=2.0)),
    "str": ("café", text_value("café")),
    "lone surrogate": ("\ud800", v.TextValue(text="\\ud800", total_length=1)),
    "bytes": (b"\xff", v.BytesValue(data=b"\xff", total_length=1)),
    "bytearray": (bytearray(b"a"), v.BytesValue(data=b"a", total_length=1, type_name="bytearray")),
    "Decimal": (decimal.Decimal("1.20"), v.DecimalValue(text="1.20")),
    "UUID": (uuid.UUID(int=0), v.UuidValue(text="00000000-0000-0000-0000-000000000000")),
    "naive datetime": (
        datetime.datetime.fromisoformat("2024-01-31T12:30:00.500"),
        v.LocalDatetimeValue(text="2024-01-31T12:30:00.500000"),
    ),
    "aware datetime": (
        datetime.datetime(1970, 1, 1, 1, tzinfo=datetime.timezone(HOUR)),
        v.TimestampValue(seconds=0, nanos=0, offset_seconds=3600),
    ),
    "datetime before the epoch": (
        datetime.datetime(1969, 12, 31, 23, 59, 59, 250000, tzinfo=datetime.UTC),
        v.TimestampValue(seconds=-1, nanos=250_000_000, offset_seconds=0),
    ),
    "datetime of a zone": (
        datetime.datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        v.TimestampValue(seconds=1719784800, nanos=0, offset_seconds=7200),
    ),
    "date": (datetime.date(2024, 1, 31), v.DateValue(text="2024-01-31")),
    "time": (datetime.time(1, 2, 3), v.TimeValue(text="01:02:03")),
    "timedelta": (datetime.timedelta(days=-1, microseconds=1), v.DurationValue(micros=-86_399_999_999)),
    "longest timedelta": (
        datetime.timedelta.max,
        v.DescriptionValue(
            type_name="datetime.timedelta", text="999999999 days, 23:59:59.999999", truncated=False
        ),
    ),
    "Fraction": (
        fractions.Fraction(1, 3),
        v.DescriptionValue(type_name="fractions.Fraction", text="1/3", truncated=False),
    ),
    "Enum": (Color.RED, v.DescriptionValue(type_name=f"{__name__}.Color", text="Color.RED", truncated=False)),
    "IntEnum": (Weight.HEAVY, v.IntValue(value=9, type_name=f"{__name__}.Weight")),
    "list": ([1, "a"], v.ListValue(items=[v.IntValue(value=1), text_value("a")], total_count=2)),
    "tuple": ((1,), v.TupleValue(items=[v.IntValue(value=1)], total_count=1)),
    "frozenset": (frozenset({1}), v.SetValue(items=[v.IntValue(value=1)], total_count=1, frozen=True)),
    "range": (range(0, 5, 4), v.ListValue(items=[v.IntValue(value=0), v.IntValue(value=4)], total_count=2)),
    "empty range": (range(5, 0), v.ListValue(items=[], total_count=0)),
    "deque": (collections.deque([1]), v.ListValue(items=[v.IntValue(value=1)], total_count=1)),
    "dict": ({"a": 1}, v.RecordValue(fields=[("a", v.IntValue(value=1))], total_count=1)),
    "dict of other keys": (
        {1: 2}, v.MapValue(entries=[(v.IntValue(value=1), v.IntValue(value=2))], total_count=1),
    ),
    "Counter": (collections.Counter("a"), v.RecordValue(fields=[("a", v.IntValue(value=1))], total_count=1)),
    "defaultdict": (
        collections.defaultdict(int, a=1), v.RecordValue(fields=[("a", v.IntValue(value=1))], total_count=1),
    ),
    "dict subclass": (MyDict(a=1), v.RecordValue(fields=[("a", v.IntValue(value=1))], total_count=1)),
    "keys": ({"a": 1}.keys(), v.ListValue(items=[text_value("a")], total_count=1)),
    "namedtuple": (
        Pair(1, "b"),
        v.RecordValue(fields=[("left", v.IntValue(value=1)), ("right", text_value("b"))], total_count=2),
    ),
    "dataclass": (
        Point(1),
        v.RecordValue(fields=[("x", v.IntValue(value=1)), ("y", v.FloatValue(value=0.5))], total_count=2),
    ),
    "dataclass with slots": (Slotted(1), v.RecordValue(fields=[("x", v.IntValue(value=1))], total_count=1)),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), CASES.values(), ids=CASES)
def test_value_of_a_type(given: Any, expected: v.Value) -> None:
    assert value_of(given) == expected


def test_cycles_are_marked() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert value_of(loop) == v.ListValue(
        items=[v.DescriptionValue(type_name="list", text="<cycle>", truncated=False)], total_count=1
    )


def test_the_same_object_twice_is_no_cycle() -> None:
    part = [1]
    assert value_of([part, part]) == v.ListValue(items=[value_of(part)] * 2, total_count=2)


def test_an_unknown_object_is_described_by_its_attributes() -> None:
    assert value_of(types.SimpleNamespace(a=1)) == v.RecordValue(
        fields=[("a", v.IntValue(value=1))], total_count=1
    )
    described = value_of(Plain())
    assert described == v.DescriptionValue(
        type_name=f"{__name__}.Plain", text="<Plain, a=1, b='x'>", truncated=False
    )


class Plain:
    def __init__(self) -> None:
        self.a = 1
        self.b = "x"
