"""Describing is safe: no code of the value runs, no value outgrows its size, and what is whole comes back."""

import dataclasses
import datetime
import decimal
import enum
import fractions
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxd.channel import values as v
from sandboxd.guest.describe import to_value
from sandboxd.guest.from_values import to_python
from tests.unit.guest.described import SIZE


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Hostile:
    """Everything that could run, raises."""

    def __init__(self) -> None:
        object.__setattr__(self, "inner", 5)

    def _raise(self, *_: Any) -> Any:
        raise AssertionError("user code ran")

    __repr__ = __str__ = __len__ = __iter__ = __getattribute__ = __getattr__ = __eq__ = _raise  # type: ignore
    __hash__ = __bool__ = __int__ = __float__ = __index__ = __format__ = __reduce__ = _raise  # type: ignore
    __class__ = property(_raise)  # type: ignore


class HostileDict(dict[str, int]):
    __getattribute__ = __iter__ = items = keys = __len__ = __getitem__ = __repr__ = Hostile._raise  # type: ignore


class HostileList(list[int]):
    __getattribute__ = __iter__ = __len__ = __getitem__ = __repr__ = Hostile._raise  # type: ignore


class HostileText(str):
    __getattribute__ = __iter__ = __len__ = __getitem__ = __repr__ = __str__ = encode = Hostile._raise  # type: ignore
    __slots__ = ()


class HostileInt(int):
    __getattribute__ = __index__ = __int__ = __str__ = __repr__ = bit_length = Hostile._raise  # type: ignore


class HostileZone(datetime.tzinfo):
    utcoffset = dst = tzname = __repr__ = Hostile._raise


def _array_of(item: Any) -> Any:
    array = np.empty(1, dtype=object)
    array[0] = item
    return array


def _series_of(item: Any) -> Any:
    series = pd.Series([0], dtype=object)
    series.array._ndarray[0] = item
    return series


HOSTILE: dict[str, Callable[[], Any]] = {
    "instance": Hostile,
    "in a list": lambda: [Hostile()],
    "in a dict": lambda: {"k": Hostile()},
    "dict": lambda: HostileDict(a=1),
    "list": lambda: HostileList([1]),
    "text": lambda: HostileText("text"),
    "int": lambda: HostileInt(5),
    "big int": lambda: HostileInt(2**70),
    "zone": lambda: datetime.datetime(2024, 1, 1, tzinfo=HostileZone()),
    "zone of a time": lambda: datetime.time(1, tzinfo=HostileZone()),
    "namespace": lambda: types.SimpleNamespace(a=Hostile()),
    "in an array": lambda: _array_of(Hostile()),
    "in a series": lambda: _series_of(Hostile()),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_no_code_of_the_value_runs(make: Callable[[], Any]) -> None:
    value, _ = to_value(make(), size=SIZE)
    assert msgspec.msgpack.encode(value)


def _nested() -> Iterator[Any]:
    yield ["x" * 100] * 1000
    yield {str(n): {"k": [n] * 10} for n in range(1000)}
    yield dict.fromkeys(range(1000), b"y" * 50)
    yield np.arange(100_000)
    yield np.array(["z" * 50] * 1000)
    yield pd.DataFrame({"t": ["é" * 100] * 1000, "n": range(1000)})
    yield pd.Series([[1, 2, 3]] * 1000)
    yield "é" * 100_000
    yield ["\U0001f600" * 10] * 10_000
    yield [datetime.datetime(2024, 1, 31, 12, 30, 0, 1, tzinfo=zone) for zone in (None, datetime.UTC)] * 5000
    yield [np.float32(1), np.int8(1), np.bool_(1), np.complex64(1j)] * 5000
    yield [uuid.UUID(int=5), decimal.Decimal("1.5"), fractions.Fraction(1, 3), 10**30, Color.RED, 1j] * 5000
    yield [None, True, 1, 1.5, "a", b"a", datetime.date(2024, 1, 1), datetime.timedelta(1)] * 5000
    yield [object()] * 1000
    yield [Point(1)] * 5000
    yield [[[["deep"] * 20] * 20] * 20] * 20


@pytest.mark.parametrize("size", [200, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("given", list(_nested()), ids=lambda given: type(given).__name__)
def test_result_fits_its_size_and_says_that_it_was_cut(given: Any, size: int) -> None:
    value, truncated = to_value(given, size=size)
    encoded = msgspec.msgpack.encode(value)
    assert len(encoded) <= size + 300
    whole, _ = to_value(given, size=1 << 26)
    assert truncated == (value != whole)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
        | st.decimals() | st.datetimes().map(lambda moment: moment.replace(fold=0)) | st.uuids(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
        | st.dictionaries(st.integers(), inner),
        max_leaves=30,
    ),
    st.integers(50, 5000),
)  # fmt: skip
def test_any_plain_value_encodes_and_comes_back(given: Any, size: int) -> None:
    value, truncated = to_value(given, size=1 << 20)
    assert not truncated
    back = to_python(msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=v.Value))
    assert repr(back) == repr(given)
    small, _ = to_value(given, size=size)
    assert len(msgspec.msgpack.encode(small)) <= size + 300
