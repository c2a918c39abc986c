"""Any Python value as a typed value of the channel: bounded, and without running the value's own code.

What a value is is decided by its exact type. A subclass of a builtin is read through that builtin; what
has no typed form becomes a description.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from sandboxd.channel.values import (
    BoolValue,
    BytesValue,
    ComplexValue,
    DescriptionValue,
    FloatValue,
    IntValue,
    LocalDatetimeValue,
    MapValue,
    NullValue,
    RecordValue,
    TextValue,
    TimestampValue,
    UuidValue,
    Value,
)
from sandboxd.guest.conversions import converter_for
from sandboxd.guest.scalars import LEAF_BASES, SCALARS
from sandboxd.guest.summary import summarize
from sandboxd.guest.type_names import clean_text, type_name

DEEPEST = 24
"""Levels of nesting; deeper values become descriptions. A message of protobuf may nest 100 levels, and a
level here is up to four of those."""
_NODE_BYTES = 24
"""What most values cost on the channel, beside their text."""
_SMALL = 2**63
_SHORT = 200
_FRAME_BYTES = {NullValue: 6, BoolValue: 8, IntValue: 15, FloatValue: 17, TextValue: 18, BytesValue: 18,
                LocalDatetimeValue: 46, UuidValue: 44, TimestampValue: 32, ComplexValue: 28}  # fmt: skip


def frame_bytes(scalar: Value) -> int:
    """An upper bound of what a scalar costs beside the text or the bytes it carries."""
    if isinstance(scalar, DescriptionValue):
        return _NODE_BYTES + len(scalar.type_name) + len(scalar.text.encode())
    return _FRAME_BYTES.get(type(scalar), _NODE_BYTES) + len(getattr(scalar, "type_name", ""))


class Budget:
    """How many bytes a value may still take, and whether something was left out for the lack of them."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.truncated = False

    def fits(self, size: int = 0) -> bool:
        """Is there room for one more value of `size` bytes beside its frame?"""
        return self.left >= size + _NODE_BYTES

    def take(self, size: int = 0) -> None:
        """Uses that room."""
        self.left -= size + _NODE_BYTES


def to_value(
    value: Any, *, size: int, describe: Callable[[Any], str | None] | None = None
) -> tuple[Value, bool]:
    """The typed value, encoded at most about `size` bytes, and whether anything was left out.

    `describe` may give a text for a value without a typed form, such as the value's own repr; None from
    it, or no `describe`, means the safe summary.
    """
    budget = Budget(size)
    described = Describer(budget, describe).value(value, 0)
    return described, budget.truncated


class Describer:
    """Walks one value."""

    def __init__(self, budget: Budget, describe: Callable[[Any], str | None] | None = None) -> None:
        self.budget = budget
        self._describe = describe
        self._inside: set[int] = set()

    def value(self, value: Any, depth: int) -> Value:
        """`value` itself, as far as the budget goes."""
        kind = type(value)
        # Most of what a large value consists of, in a tenth of the time.
        if kind is int and -_SMALL < value < _SMALL:
            self.budget.left -= 15
            return IntValue(value)
        if kind is float:
            self.budget.left -= 17
            return FloatValue(value)
        if kind is str and len(value) < _SHORT and self.budget.left > _SHORT and value.isascii():
            self.budget.left -= 18 + len(value)
            return TextValue(value, len(value))
        convert = converter_for(kind)
        if convert is None:
            return self.description(value)
        if kind in SCALARS or issubclass(kind, LEAF_BASES):
            scalar = convert(self, value, depth)
            self.budget.left -= frame_bytes(scalar)
            return scalar
        if depth >= DEEPEST:
            self.budget.truncated = True
            return self.description(value)
        if id(value) in self._inside:
            self.budget.take(20)
            return DescriptionValue(type_name=type_name(kind), text="<cycle>", truncated=False)
        self._inside.add(id(value))
        try:
            return convert(self, value, depth)
        finally:
            self._inside.discard(id(value))

    def description(self, value: Any) -> Value:
        """A value that has no typed form, as text."""
        text = self._describe(value) if self._describe is not None else None
        truncated = False
        if text is None:
            text, truncated = summarize(value)
        room = max(min(self.budget.left, 64 * 1024) // 4, 0)
        if len(text) > room:
            text, truncated = text[:room], True
        if truncated:
            self.budget.truncated = True
        text = clean_text(text)
        self.budget.take(len(text.encode()) + 80)
        return DescriptionValue(type_name=type_name(type(value)), text=text, truncated=truncated)

    def text(self, value: str, type_name_: str = "") -> Value:
        """A string, cut where the budget ends."""
        length = str.__len__(value)
        room = max(self.budget.left - _NODE_BYTES, 0)
        head = clean_text(value, room)
        while len(head.encode()) > room:  # beyond ASCII a character is up to four bytes
            head = head[: len(head) * room // len(head.encode())]
        if len(head) < length:
            self.budget.truncated = True
        self.budget.left -= len(head.encode())
        return TextValue(text=head, total_length=length, type_name=type_name_)

    def items(self, items: Iterable[Any], count: int, depth: int) -> list[Value]:
        """As many of `count` items as there is room for."""
        self.budget.take()
        found: list[Value] = []
        for item in items:
            if not self.budget.fits():
                break
            found.append(self.value(item, depth + 1))
        if len(found) < count:
            self.budget.truncated = True
        return found

    def mapping(self, items: Iterable[tuple[Any, Any]], count: int, depth: int) -> Value:
        """A record when all keys are exact strings, else a map."""
        self.budget.take()
        pairs = list(islice(items, max(self.budget.left, 0) // _NODE_BYTES + 1))
        if all(type(key) is str for key, _ in pairs):
            return self.record(pairs, count, depth)
        entries: list[tuple[Value, Value]] = []
        for key, each in pairs:
            if not self.budget.fits(_NODE_BYTES):
                break
            entries.append((self.value(key, depth + 1), self.value(each, depth + 1)))
        if len(entries) < count:
            self.budget.truncated = True
        return MapValue(entries=entries, total_count=count)

    def record(self, pairs: Iterable[tuple[str, Any]], count: int, depth: int) -> Value:
        """Named fields."""
        fields: list[tuple[str, Value]] = []
        for name, each in pairs:
            clean = clean_text(name)
            size = len(clean.encode()) + 6
            if not self.budget.fits(size):
                break
            self.budget.left -= size
            fields.append((clean, self.value(each, depth + 1)))
        if len(fields) < count:
            self.budget.truncated = True
        return RecordValue(fields=fields, total_count=count)
