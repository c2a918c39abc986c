"""Python types of values that have no natural one: what is cut, what is only described, SQL intervals."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An object that has no typed form: an instance, a function, a value too deep or too large."""

    type_name: str
    """Qualified name of its type."""
    text: str
    """A bounded text for people."""
    truncated: bool = False
    """Whether `text` is cut."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An SQL interval; its three parts do not convert into each other."""

    months: int = 0
    days: int = 0
    micros: int = 0


class CutText(str):
    """The head of a longer string."""

    __slots__ = ("total_length",)
    total_length: int
    """Characters there were in all."""

    def __new__(cls, head: str, total_length: int) -> Self:
        found = super().__new__(cls, head)
        found.total_length = total_length
        return found


class CutBytes(bytes):
    """The head of longer bytes."""

    total_length: int
    """Bytes there were in all."""

    def __new__(cls, head: bytes, total_length: int) -> Self:
        found = super().__new__(cls, head)
        found.total_length = total_length
        return found


class CutList(list[Any]):
    """The first items of a longer list."""

    __slots__ = ("total_length",)

    def __init__(self, items: Iterable[Any], total_length: int) -> None:
        super().__init__(items)
        self.total_length = total_length
        """Items there were in all."""

    def __repr__(self) -> str:
        return f"<{len(self)} of {self.total_length} items: {super().__repr__()}>"


class CutTuple(tuple[Any, ...]):
    """The first items of a longer tuple."""

    total_length: int
    """Items there were in all."""

    def __new__(cls, items: Iterable[Any], total_length: int) -> Self:
        found = super().__new__(cls, items)
        found.total_length = total_length
        return found

    def __repr__(self) -> str:
        return f"<{len(self)} of {self.total_length} items: {super().__repr__()}>"


class CutSet(set[Any]):
    """Some members of a larger set."""

    __slots__ = ("total_length",)

    def __init__(self, items: Iterable[Any], total_length: int) -> None:
        super().__init__(items)
        self.total_length = total_length
        """Members there were in all."""


class CutFrozenSet(frozenset[Any]):
    """Some members of a larger frozenset."""

    total_length: int
    """Members there were in all."""

    def __new__(cls, items: Iterable[Any], total_length: int) -> Self:
        found = super().__new__(cls, items)
        found.total_length = total_length
        return found


class CutDict(dict[Any, Any]):
    """The first entries of a larger dict."""

    __slots__ = ("total_length",)

    def __init__(self, entries: Mapping[Any, Any], total_length: int) -> None:
        super().__init__(entries)
        self.total_length = total_length
        """Entries there were in all."""

    def __repr__(self) -> str:
        return f"<{len(self)} of {self.total_length} entries: {super().__repr__()}>"


class NanosecondDatetime(datetime):
    """A datetime of which Python's own drops the last three digits."""

    nanosecond: int
    """Nanoseconds beyond `microsecond`, 0 to 999."""

    @classmethod
    def of(cls, moment: datetime, nanosecond: int) -> Self:
        """`moment` with its last digits."""
        found = cls.combine(moment.date(), moment.timetz())
        found.nanosecond = nanosecond
        return found
