"""Which types have a typed form on the channel, and how those that hold other values are read."""

import collections
import types
from typing import TYPE_CHECKING, Any

from sandboxd.channel.values import ListValue, SetValue, TupleValue, Value
from sandboxd.guest import tables
from sandboxd.guest.rows import Rows
from sandboxd.guest.scalars import BASES, INT64_MAX, SCALARS, Convert
from sandboxd.guest.summary import instance_attributes

if TYPE_CHECKING:
    from sandboxd.guest.describe import Describer


def converter_for(kind: type) -> Convert | None:
    """How to read a value of exactly this type; None when it has no typed form."""
    exact = SCALARS.get(kind) or _CONTAINERS.get(kind) or tables.CONVERTERS.get(kind)
    if exact is not None:
        return exact
    for base, convert in _BASES:
        if issubclass(kind, base):
            return convert
    if _is_dataclass(kind):
        return _dataclass
    return None


def _list(describer: "Describer", value: Any, depth: int) -> Value:
    count = list.__len__(value)
    return ListValue(items=describer.items(list.__iter__(value), count, depth), total_count=count)


def _deque(describer: "Describer", value: Any, depth: int) -> Value:
    kind = collections.deque
    count = kind.__len__(value)
    return ListValue(items=describer.items(kind.__iter__(value), count, depth), total_count=count)


def _tuple(describer: "Describer", value: Any, depth: int) -> Value:
    count = tuple.__len__(value)
    return TupleValue(items=describer.items(tuple.__iter__(value), count, depth), total_count=count)


def _named_tuple_or_tuple(describer: "Describer", value: Any, depth: int) -> Value:
    names = type.__getattribute__(type(value), "__dict__").get("_fields")
    count = tuple.__len__(value)
    if type(names) is tuple and len(names) == count and all(type(name) is str for name in names):
        describer.budget.take()
        return describer.record(zip(names, tuple.__iter__(value), strict=True), count, depth)
    return _tuple(describer, value, depth)


def _set(describer: "Describer", value: Any, depth: int) -> Value:
    kind = set if issubclass(type(value), set) else frozenset
    count = kind.__len__(value)
    items = describer.items(kind.__iter__(value), count, depth)
    return SetValue(items=items, total_count=count, frozen=kind is frozenset)


def _range(describer: "Describer", value: range, depth: int) -> Value:
    count = _range_length(value)  # len() ends at sys.maxsize
    return ListValue(items=describer.items(iter(value), count, depth), total_count=min(count, INT64_MAX))


def _range_length(value: range) -> int:
    span = value.stop - value.start
    return max(0, -(-span // value.step))


def _dict(describer: "Describer", value: Any, depth: int) -> Value:
    return describer.mapping(dict.items(value), dict.__len__(value), depth)


def _view(describer: "Describer", value: Any, depth: int) -> Value:
    count = len(value)
    return ListValue(items=describer.items(iter(value), count, depth), total_count=count)


def _simple_namespace(describer: "Describer", value: Any, depth: int) -> Value:
    return _dict(describer, object.__getattribute__(value, "__dict__"), depth)


def _rows(describer: "Describer", value: Rows, depth: int) -> Value:
    return ListValue(items=describer.items(iter(value), len(value), depth), total_count=len(value))


def _is_dataclass(kind: type) -> bool:
    return any(
        type(type.__dict__["__dict__"].__get__(each).get("__dataclass_fields__")) is dict
        for each in type.__dict__["__mro__"].__get__(kind)
    )


def _dataclass(describer: "Describer", value: Any, depth: int) -> Value:
    attributes = instance_attributes(value) or {}
    describer.budget.take()
    pairs = [(name, each) for name, each in attributes.items() if type(name) is str]
    return describer.record(pairs, len(pairs), depth)


_CONTAINERS: dict[type, Convert] = {
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
    dict: _dict,
    range: _range,
    collections.deque: _deque,
    collections.Counter: _dict,
    collections.OrderedDict: _dict,
    collections.defaultdict: _dict,
    type({}.keys()): _view,
    type({}.values()): _view,
    type({}.items()): _view,
    types.SimpleNamespace: _simple_namespace,
    Rows: _rows,
}

_BASES: tuple[tuple[type, Convert], ...] = (
    *BASES,
    (dict, _dict),
    (list, _list),
    (tuple, _named_tuple_or_tuple),
    (set, _set),
    (frozenset, _set),
    (collections.deque, _deque),
)
"""Read through the builtin they derive from; the first that fits."""
