"""Where an object keeps its parts, found and read without running a line of user code.

Types are told apart by identity, and attributes are read through the interpreter's own descriptors:
`getattr`, `isinstance` and iteration of a user's class could all run, hang or change the program.
"""

import collections
import types
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, cast

_mro_of = cast("Callable[[type], tuple[type, ...]]", type.__dict__["__mro__"].__get__)
_dict_of_type = cast("Callable[[type], Any]", type.__dict__["__dict__"].__get__)
_flags_of_type = cast("Callable[[type], int]", type.__dict__["__flags__"].__get__)
_name_of_type = cast("Callable[[type], str]", type.__dict__["__name__"].__get__)
_HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE, Include/object.h."""
_KNOWN_BASES = frozenset(
    map(id, (list, tuple, dict, set, frozenset, str, int, float, bytes, collections.deque))
)


def type_name(cls: type) -> str:
    """The name of `cls`, without asking its metaclass."""
    return _name_of_type(cls)


class Layout:
    """Where instances of a type keep their attributes; found once a type."""

    __slots__ = ("base", "cls", "dict_getter", "is_class", "is_exception", "slots")

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.dict_getter: Callable[[Any], Any] | None = None
        self.slots: list[tuple[str, Callable[[Any], Any]]] = []
        self.base: type | None = None
        self.is_class = self.is_exception = False
        for parent in _mro_of(cls):
            self._add(parent)

    def _add(self, parent: type) -> None:
        if parent is type:
            self.is_class = True
        elif parent is BaseException:
            self.is_exception = True
        elif self.base is None and id(parent) in _KNOWN_BASES:
            self.base = parent
        if not _flags_of_type(parent) & _HEAP_TYPE:
            return
        for name, item in _dict_of_type(parent).items():
            kind = type(item)
            if kind is types.GetSetDescriptorType and name == "__dict__":
                self.dict_getter = self.dict_getter or item.__get__
            elif kind is types.MemberDescriptorType:
                self.slots.append((name, item.__get__))


class Reader:
    """The builtin part of an instance of a user's subclass, read through the builtin's own methods."""

    __slots__ = ("_base", "_value")

    def __init__(self, base: Any, value: Any) -> None:
        self._base = base
        self._value = value

    def __len__(self) -> int:
        return int(self._base.__len__(self._value))

    def __iter__(self) -> Any:
        return self._base.__iter__(self._value)

    def items(self) -> Any:
        return self._base.items(self._value)


def first(parts: Iterable[Any], count: int) -> list[Any]:
    """The first parts; fewer when another thread changes the container meanwhile."""
    try:
        return list(islice(parts, count))
    except RuntimeError:
        return []
