"""Notices that an object with parts changed, without keeping the object alive or comparing its parts.

Keeping a reference would delay the object's destructor, and `==` could run user code. So a container is
known by its address and the addresses of its parts; only parts of plain types are kept.
"""

import collections
import ctypes
import types
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from sandboxd.guest.debug.libraries import described, no_print
from sandboxd.guest.debug.values import Renderer
from sandboxd.guest.debug.wire import bytes_field, number_field, varint

SCALARS = frozenset(map(id, (int, float, bool, type(None), str, bytes, complex)))
"""Ids of the types whose objects never change, have no destructor and no user code in them."""
_LISTS = frozenset(map(id, (list, collections.deque, tuple)))
_SETS = frozenset(map(id, (set, frozenset)))
_DICTS = frozenset(map(id, (dict, collections.OrderedDict, collections.defaultdict, collections.Counter)))
_FULL_PARTS = 65_536
"""Containers up to this length are compared part by part, longer ones by length, head and tail."""
_EDGE_PARTS = 1024
_MAX_KEPT = 4096
_MAX_NESTED = 400
_MAX_PATCHES = 8
_SCANNED_PARTS = 256
_TEXT_EDGE = 64
"""A long string may be extended in place, so its address does not tell."""
_POINTER = ctypes.sizeof(ctypes.c_void_p)
_LIST_ITEMS_OFFSET = object.__basicsize__ + _POINTER
"""ob_item of PyListObject, after ob_base.ob_size; verified below before it is used."""


def _peeking_addresses() -> Callable[[list[Any]], bytes]:
    words = (ctypes.c_uint64 * ((1 << 44) - 1)).from_address(0)
    memory = memoryview((ctypes.c_char * ((1 << 47) - 1)).from_address(0)).cast("B")

    def addresses(private: list[Any]) -> bytes:
        start = words[(id(private) + _LIST_ITEMS_OFFSET) >> 3]
        return memory[start : start + _POINTER * len(private)].tobytes() if private else b""

    return addresses


def _plain_addresses(private: list[Any]) -> bytes:
    return b"".join([id(part).to_bytes(8, "little") for part in private])


def _choose_addresses() -> Callable[[list[Any]], bytes]:
    """The quick way where the interpreter's list layout is the one it needs, else the slow one."""
    sample = [object() for _ in range(5)]
    if _POINTER != 8 or object.__basicsize__ != 16 or list.__basicsize__ != 40:
        return _plain_addresses
    peek = _peeking_addresses()
    return peek if peek(sample[:]) == _plain_addresses(sample) else _plain_addresses


addresses = _choose_addresses()
"""The addresses of a list's items as bytes. The list must be private to the caller: a copy."""


def _text_print(value: Any) -> Any:
    return (len(value), value[:_TEXT_EDGE], value[-_TEXT_EDGE:])


_PRINTS: dict[int, Callable[[Any], Any]] = {
    id(str): _text_print,
    id(bytes): _text_print,
    id(types.FunctionType): no_print,
    id(types.BuiltinFunctionType): no_print,
    id(type): no_print,
}
"""Of objects that are not described, but have no parts either; by the id of their type."""
_NOTHING: frozenset[int] = frozenset()


class Mark:
    """What is remembered of an object with parts."""

    __slots__ = ("address", "inner", "kept", "length", "nested", "picture", "print_", "print_of")

    def __init__(self, value: Any, renderer: Renderer) -> None:
        self.address = id(value)
        self.length = 0
        """Length after patches, 0 when the picture tells it."""
        self.print_: Any = None
        self.kept: list[Any] | None = None
        self.nested: tuple[Any, ...] = ()
        known = described(type(value))
        self.print_of = _PRINTS.get(id(type(value))) if known is None else known.print_of
        """Tells whether an object without parts changed; None for one that is known by its parts."""
        if known is not None:
            self.picture, self.inner = renderer.render_described(value, known), _NOTHING
        else:
            self.picture, self.inner = renderer.render_object(value)
        if self.print_of is not None:
            self.print_ = self.print_of(value)
        else:
            self.remember(value, parts_of(value, renderer), renderer)

    @property
    def shown(self) -> bytes:
        """The picture with the length as it is now."""
        return self.picture + number_field(13, self.length)

    def remember(self, value: Any, parts: list[Any] | None, renderer: Renderer) -> None:
        """Takes the present parts as the known ones."""
        self.print_ = fingerprint(value, parts)
        self.kept = None
        self.nested = ()
        if parts is None:
            return
        if len(parts) <= _MAX_KEPT and not set(map(id, map(type, parts))) - SCALARS:
            self.kept = parts
        else:
            self.nested = nested_fingerprint(parts, renderer)


def parts_of(value: Any, renderer: Renderer) -> list[Any] | None:
    """A private list of the parts of a container or instance; None when it has none."""
    kind = id(type(value))
    try:
        if kind in _LISTS or kind in _SETS:
            return _cut(value)
        if kind in _DICTS:
            return [*_cut(value), *_cut(value.values())]
        if kind in SCALARS or described(type(value)) is not None:
            return None
        base: Any = renderer.base(type(value))
        if base is not None and id(base) not in SCALARS:
            inner = [*_cut(base.__iter__(value), base.__len__(value))]
            if base is dict:
                inner += _cut(dict.values(value))
            return inner
    except RuntimeError:
        return None
    return _attributes(value, renderer)


def _attributes(value: Any, renderer: Renderer) -> list[Any] | None:
    held = renderer.attributes(value)
    slots = renderer.slots(value)
    if held is None and not slots:
        return None
    parts = [*held, *held.values()] if held else []
    for _name, reader in slots:
        try:
            parts.append(reader(value))
        except AttributeError:
            parts.append(None)
    return parts


def _cut(parts: Any, length: int | None = None) -> list[Any]:
    total = len(parts) if length is None else length
    if total <= _FULL_PARTS:
        return list(parts)
    if type(parts) is list or type(parts) is tuple:
        return [*parts[:_EDGE_PARTS], *parts[-_EDGE_PARTS:]]
    return list(islice(parts, _EDGE_PARTS))


def fingerprint(value: Any, parts: list[Any] | None) -> Any:
    """Differs when a direct part was exchanged, added or removed."""
    if parts is None:
        return _print_without_parts(value)
    kind = id(type(value))
    if len(parts) <= _FULL_PARTS and kind in _LISTS:
        return addresses(parts)
    total = len(value) if kind in _LISTS or kind in _SETS or kind in _DICTS else len(parts)
    return (total, addresses(parts))


def _print_without_parts(value: Any) -> Any:
    known = described(type(value))
    print_of = _PRINTS.get(id(type(value))) if known is None else known.print_of
    return None if print_of is None else print_of(value)


def nested_fingerprint(parts: list[Any], renderer: Renderer) -> tuple[Any, ...]:
    """Differs when a part of a part was exchanged; looks at a bounded number of them, two levels down."""
    prints: list[Any] = []
    waiting = [(part, 1) for part in parts[:_MAX_NESTED]]
    while waiting and len(prints) < _MAX_NESTED:
        part, level = waiting.pop()
        if id(type(part)) in SCALARS:
            continue
        inner = parts_of(part, renderer)
        if inner is None:
            prints.append(_print_without_parts(part))
            continue
        prints.append(addresses(inner))
        if level < 2 and set(map(id, map(type, inner))) - SCALARS:
            waiting += [(child, level + 1) for child in inner[:_EDGE_PARTS]]
    return tuple(prints)


def find_changes(mark: Mark, value: Any, renderer: Renderer, *, deep: bool, shown: int) -> list[bytes] | None:
    """The `Change` bodies, without a name, that turn the known state into the present one.

    None when nothing changed. `shown` is how many items a picture shows: a change behind them becomes a
    patch.
    """
    if mark.print_of is not None:
        parts, present = None, mark.print_of(value)
    else:
        parts = parts_of(value, renderer)
        present = fingerprint(value, parts)
    if present == mark.print_:
        if not deep or mark.kept is not None:
            return None
        return _nested_change(mark, value, parts, renderer)
    known = mark.print_
    kept = mark.kept
    if type(value) is list and type(known) is bytes and type(present) is bytes and parts is not None:
        places = changed_places(known, present, len(parts))
        if places and places[0] >= shown and kept is not None:
            return _patches(mark, value, parts, places, renderer)
    mark.picture, mark.inner = renderer.render_object(value)
    mark.length = 0
    mark.remember(value, parts, renderer)
    return [bytes_field(2, mark.picture)]


def _nested_change(mark: Mark, value: Any, parts: list[Any] | None, renderer: Renderer) -> list[bytes] | None:
    if parts is None or (not mark.nested and not mark.inner):
        return None
    nested = nested_fingerprint(parts, renderer) if parts is not None else ()
    picture, inner = renderer.render_object(value)
    if nested == mark.nested and picture == mark.picture:
        return None
    mark.nested, mark.picture, mark.inner, mark.length = nested, picture, inner, 0
    return [bytes_field(2, picture)]


def changed_places(known: bytes, present: bytes, length: int) -> Sequence[int]:
    """Positions that differ between two address strings; the first and last of many, or of a growth."""
    if len(known) > len(present) or len(present) - len(known) > _POINTER * _MAX_PATCHES:
        return ()
    if len(known) < len(present):
        return range(len(known) // _POINTER, length) if present.startswith(known) else ()
    first = _first_difference(known, present, length)
    end = length
    low = first
    while low < end:
        middle = (low + end) // 2
        if known[middle * _POINTER :] == present[middle * _POINTER :]:
            end = middle
        else:
            low = middle + 1
    last = low - 1
    if last - first > _SCANNED_PARTS:
        return (first, last)
    places = []
    for place in range(first, last + 1):
        offset = place * _POINTER
        if known[offset : offset + _POINTER] != present[offset : offset + _POINTER]:
            places.append(place)
    return places


def _first_difference(known: bytes, present: bytes, length: int) -> int:
    low, end = 0, length
    while low < end:
        middle = (low + end + 1) // 2
        if known[: middle * _POINTER] == present[: middle * _POINTER]:
            low = middle
        else:
            end = middle - 1
    return low


def _patches(
    mark: Mark, value: list[Any], parts: list[Any], places: Sequence[int], renderer: Renderer
) -> list[bytes]:
    shown = places[:_MAX_PATCHES]
    changes = []
    plain = True
    for place in shown:
        part = parts[place]
        plain = plain and id(type(part)) in SCALARS
        patch = b"\x08" + varint(place) + bytes_field(3, renderer.render(part)) + number_field(4, len(value))
        changes.append(bytes_field(4, patch))
    mark.length = len(value)
    if plain and len(places) == len(shown):
        mark.print_ = fingerprint(value, parts)
        mark.kept = parts
    else:
        mark.remember(value, parts, renderer)
    return changes
