"""Pictures of objects as `DebugValue` bytes: bounded, and made without running a line of user code.

Neither `repr` nor `==` of a user's class is called, and its parts are read as `layouts` does.
"""

import collections
import struct
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from sandboxd.guest.debug.layouts import Layout, Reader, first, type_name
from sandboxd.guest.debug.libraries import Described, described, summary_of
from sandboxd.guest.debug.wire import bytes_field, number_field, text_field, varint, zigzag

_DOUBLE = struct.Struct("<d")
_args_of_exception = BaseException.__dict__["args"].__get__

SHAPE_LIST, SHAPE_TUPLE, SHAPE_SET, SHAPE_MAPPING, SHAPE_INSTANCE = 1, 2, 3, 4, 5
NONE = b"\x08\x01"
TRUE = b"\x10\x01"
FALSE = b"\x10\x00"
_ALL = slice(None)
_INT64 = 1 << 63
_LARGE_INT_BITS = 1024
_MAX_CACHED_TYPES = 4096
_MAX_NUMBERED_OBJECTS = 100_000
STEP_NODES = 400
"""Nodes rendered in one step; a variable beyond them is marked as deferred."""

# Keyed by id(type): hashing a class runs its metaclass's __hash__.
_SEQUENCES: dict[int, tuple[int, str]] = {
    id(list): (SHAPE_LIST, ""),
    id(tuple): (SHAPE_TUPLE, ""),
    id(set): (SHAPE_SET, ""),
    id(frozenset): (SHAPE_SET, "frozenset"),
    id(collections.deque): (SHAPE_LIST, "deque"),
}
_MAPPINGS: dict[int, str] = {
    id(dict): "",
    id(collections.OrderedDict): "OrderedDict",
    id(collections.defaultdict): "defaultdict",
    id(collections.Counter): "Counter",
}
_FUNCTIONS = frozenset({id(types.FunctionType), id(types.BuiltinFunctionType)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueLimits:
    """How much of a value is shown."""

    max_string: int = 80
    max_items: int = 10
    max_depth: int = 3
    max_nodes: int = 64
    max_variables: int = 200


class Renderer:
    """Renders objects within limits; one a debug run, used by one thread at a time."""

    def __init__(self, limits: ValueLimits) -> None:
        self._limits = limits
        self._layouts: dict[int, Layout] = {}
        self._numbers: dict[int, int] = {}
        self._last_number = 0
        self._nodes_left = 0
        self._seen: set[int] = set()
        self.step_nodes_left = STEP_NODES
        self.deferred_count = 0
        self._scalars: dict[int, Callable[[Any], bytes]] = {
            id(int): self._int,
            id(bool): lambda value: TRUE if value else FALSE,
            id(type(None)): lambda _value: NONE,
            id(float): lambda value: b"\x21" + _DOUBLE.pack(value),
            id(str): self._str,
            id(bytes): self._bytes,
        }

    def render(self, value: Any) -> bytes:
        """The picture of `value`, complete by itself."""
        scalar = self._scalars.get(id(type(value)))
        return scalar(value) if scalar is not None else self.render_object(value)[0]

    def render_object(self, value: Any) -> tuple[bytes, frozenset[int]]:
        """The picture of `value` and the addresses of the objects with parts that are in it."""
        if self.step_nodes_left <= 0:
            return self._deferred(), frozenset()
        self._nodes_left = before = min(self._limits.max_nodes, self.step_nodes_left)
        self._seen = set()
        picture = self._node(value, self._limits.max_depth)
        self.step_nodes_left -= before - self._nodes_left
        return picture, frozenset(self._seen)

    def render_described(self, value: Any, known: Described) -> bytes:
        """The picture of an object that is shown by a description."""
        if self.step_nodes_left <= 0:
            return self._deferred()
        self.step_nodes_left -= 1
        return self._description(value, known)

    def _description(self, value: Any, known: Described) -> bytes:
        number = number_field(14, self._number(id(value)))
        return text_field(8, summary_of(value, known)) + known.tail + number

    def _deferred(self) -> bytes:
        self.deferred_count += 1
        return text_field(10, "the budget of this step is spent; evaluate it at a stop")

    def attributes(self, value: Any) -> dict[Any, Any] | None:
        """The genuine attribute dict of an instance, or None."""
        getter = self._layout(type(value)).dict_getter
        if getter is None:
            return None
        found = getter(value)
        return found if type(found) is dict else None

    def slots(self, value: Any) -> list[tuple[str, Callable[[Any], Any]]]:
        """Names and readers of the instance's slots."""
        return self._layout(type(value)).slots

    def base(self, cls: type) -> type | None:
        """The builtin container or scalar that `cls` extends, or None."""
        return self._layout(cls).base

    def _layout(self, cls: type) -> Layout:
        layout = self._layouts.get(id(cls))
        if layout is None:
            if len(self._layouts) >= _MAX_CACHED_TYPES:
                self._layouts.clear()
            layout = self._layouts[id(cls)] = Layout(cls)
        return layout

    def _node(self, value: Any, depth: int) -> bytes:
        self._nodes_left -= 1
        cls = type(value)
        kind = id(cls)
        scalar = self._scalars.get(kind)
        if scalar is not None:
            return scalar(value)
        address = id(value)
        if address in self._seen:
            return b"\x48" + varint(self._number(address))
        if kind in _SEQUENCES:
            shape, name = _SEQUENCES[kind]
            self._seen.add(address)
            return self._sequence(value, shape, name, depth, value)
        if kind in _MAPPINGS:
            self._seen.add(address)
            return self._mapping(value, _MAPPINGS[kind], depth, value)
        return self._other(value, cls, depth)

    def _other(self, value: Any, cls: type, depth: int) -> bytes:
        if id(cls) in _FUNCTIONS:
            return text_field(8, f"function {value.__name__}")
        if cls is types.ModuleType:
            return text_field(8, "module")
        known = described(cls)
        if known is not None:
            return self._description(value, known)
        layout = self._layout(cls)
        if layout.is_class:
            return text_field(8, f"class {type_name(value)}")
        if layout.is_exception:
            return text_field(8, self._exception_text(value) or type_name(cls)) + text_field(
                12, type_name(cls)
            )
        if layout.base is not None:
            return self._extended(value, layout, depth)
        if layout.dict_getter is not None or layout.slots:
            self._seen.add(id(value))
            return self._instance(value, layout, depth)
        return text_field(8, type_name(cls)) + self._tail(type_name(cls), 0, value)

    def _extended(self, value: Any, layout: Layout, depth: int) -> bytes:
        base = cast("Any", layout.base)
        name = type_name(layout.cls)
        if id(base) in _SEQUENCES:
            self._seen.add(id(value))
            return self._sequence(Reader(base, value), _SEQUENCES[id(base)][0], name, depth, value)
        if base is dict:
            self._seen.add(id(value))
            return self._mapping(Reader(dict, value), name, depth, value)
        plain = {
            int: lambda: self._int(int.__int__(value)),
            float: lambda: b"\x21" + _DOUBLE.pack(float.__float__(value)),
            str: lambda: self._str(str.__getitem__(value, _ALL)),
            bytes: lambda: self._bytes(bytes.__getitem__(value, _ALL)),
        }[base]()
        return plain + text_field(12, name)

    def _int(self, value: int) -> bytes:
        if -_INT64 <= value < _INT64:
            return b"\x18" + varint(zigzag(value))
        bits = value.bit_length()
        text = str(value) if bits <= _LARGE_INT_BITS else f"int of {bits} bits"
        return text_field(8, text) + text_field(12, "int")

    def _str(self, value: str) -> bytes:
        if len(value) <= self._limits.max_string:
            return bytes_field(5, value.encode("utf-8", "backslashreplace"))
        head = value[: self._limits.max_string].encode("utf-8", "backslashreplace")
        return bytes_field(5, head) + number_field(13, len(value))

    def _bytes(self, value: bytes) -> bytes:
        head = value[: self._limits.max_string]
        return bytes_field(6, head) + (number_field(13, len(value)) if len(head) < len(value) else b"")

    def _number(self, address: int) -> int:
        number = self._numbers.get(address)
        if number is None:
            if len(self._numbers) >= _MAX_NUMBERED_OBJECTS:
                self._numbers.clear()
            self._last_number += 1
            number = self._numbers[address] = self._last_number
        return number

    def _tail(self, name: str, length: int, value: Any) -> bytes:
        return text_field(12, name) + number_field(13, length) + number_field(14, self._number(id(value)))

    def _sequence(self, parts: Any, shape: int, name: str, depth: int, value: Any) -> bytes:
        out = [b"\x08", varint(shape)]
        total, shown = len(parts), 0
        if depth > 0:
            for item in first(parts, self._limits.max_items):
                if self._nodes_left <= 0:
                    break
                out.append(bytes_field(2, self._node(item, depth - 1)))
                shown += 1
        length = total if shown < total else 0
        return bytes_field(7, b"".join(out)) + self._tail(name, length, value)

    def _mapping(self, parts: Any, name: str, depth: int, value: Any) -> bytes:
        out = [b"\x08", varint(SHAPE_MAPPING)]
        total, shown = len(parts), 0
        if depth > 0:
            for key, item in first(parts.items(), self._limits.max_items):
                if self._nodes_left <= 1:
                    break
                out.append(bytes_field(3, self._node(key, 1)))
                out.append(bytes_field(2, self._node(item, depth - 1)))
                shown += 1
        length = total if shown < total else 0
        return bytes_field(7, b"".join(out)) + self._tail(name, length, value)

    def _instance(self, value: Any, layout: Layout, depth: int) -> bytes:
        out = [b"\x08", varint(SHAPE_INSTANCE)]
        attributes = self.attributes(value) or {}
        total = len(attributes) + len(layout.slots)
        shown = 0
        for name, item in self._parts(attributes, layout.slots, value):
            if depth <= 0 or self._nodes_left <= 0 or shown >= self._limits.max_items:
                break
            out.append(bytes_field(4, name.encode("utf-8", "backslashreplace")))
            out.append(bytes_field(2, self._node(item, depth - 1)))
            shown += 1
        length = total if shown < total else 0
        return bytes_field(7, b"".join(out)) + self._tail(type_name(layout.cls), length, value)

    def _parts(
        self, attributes: dict[Any, Any], slots: list[tuple[str, Callable[[Any], Any]]], value: Any
    ) -> Iterable[tuple[str, Any]]:
        for name, item in first(attributes.items(), self._limits.max_items):
            if type(name) is str:
                yield name, item
        for name, reader in slots:
            try:
                yield name, reader(value)
            except AttributeError:
                continue

    def _exception_text(self, error: BaseException) -> str:
        shown = []
        for argument in _args_of_exception(error)[:3]:
            if type(argument) is str:
                shown.append(argument[: self._limits.max_string])
            elif type(argument) in (int, float, bool, type(None)):
                shown.append(str(argument) if type(argument) is not int or abs(argument) < _INT64 else "int")
            else:
                shown.append(type_name(type(argument)))
        return ", ".join(shown)


def exception_summary(error: BaseException) -> str:
    """`Type: message` of an exception, without running its `__str__`."""
    text = Renderer(ValueLimits())._exception_text(error)
    name = type_name(type(error))
    return f"{name}: {text}" if text else name
