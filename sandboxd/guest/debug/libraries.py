"""Short descriptions of numpy and pandas objects and of the standard library's value types.

Only exact types are described, and only once their library is loaded: a subclass may carry user code.
"""

import datetime
import decimal
import fractions
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.wire import text_field

_MAX_COLUMNS = 10
_MAX_ELEMENTS = 8
_PLAIN_KINDS = "biufcSUMm"
"""numpy dtype kinds whose elements are no Python objects."""


def _with_safe_zone(value: Any) -> str:
    if type(value.tzinfo) in (type(None), datetime.timezone):
        return str(value)
    return str(value.replace(tzinfo=None)) + " with a zone"


def no_print(_value: Any) -> None:
    """For what never changes, or does not show it."""


def _bytearray_print(value: Any) -> Any:
    return bytes(value) if len(value) <= _MAX_HASHED_BYTES else len(value)


class Described:
    """A type whose objects are shown by a description, not by their parts."""

    __slots__ = ("describe", "print_of", "tail")

    def __init__(
        self, cls: type, describe: Callable[[Any], str], print_of: Callable[[Any], Any] = no_print
    ) -> None:
        self.describe = describe
        """May fail in ways of its library: see `summary_of`."""
        self.print_of = print_of
        """Gives something cheap that differs when the object changed; None where that cannot be told."""
        self.tail = text_field(12, cls.__name__)  # one of the types here, so nobody's own name
        """The type's name as it stands in a picture."""


# Keyed by id(type): hashing a class runs its metaclass's __hash__.
_known: dict[int, Described] = {}


def _learn(cls: type, describe: Callable[[Any], str], print_of: Callable[[Any], Any] = no_print) -> None:
    _known[id(cls)] = Described(cls, describe, print_of)


_learn(datetime.datetime, _with_safe_zone)
_learn(datetime.date, str)
_learn(datetime.time, _with_safe_zone)
_learn(datetime.timedelta, str)
_learn(decimal.Decimal, str)
_learn(fractions.Fraction, lambda value: f"{value.numerator}/{value.denominator}")
_learn(uuid.UUID, str)
_learn(complex, str)
_learn(range, repr)
_learn(slice, lambda _value: "slice")
_learn(re.Pattern, lambda value: f"pattern of {len(value.pattern)} characters")
_learn(bytearray, lambda value: f"bytearray of {len(value)} bytes", _bytearray_print)


def described(cls: type) -> Described | None:
    """How objects of `cls` are described; None when they are shown by their parts."""
    known = _known.get(id(cls))
    return _known.get(id(cls)) if known is None and _not_loaded and _load() else known


def summary_of(value: Any, known: Described) -> str:
    """What `value` is; no more than its type where its library cannot tell."""
    try:
        return known.describe(value)
    except (ValueError, OverflowError, TypeError, AttributeError):
        return type(value).__name__


def _load() -> bool:
    """Learns the types of libraries that were loaded meanwhile; whether there were new ones."""
    found = False
    for library, learn in list(_not_loaded.items()):
        module = sys.modules.get(library)
        if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
            continue
        del _not_loaded[library]
        learn(module)
        found = True
    return found


def _learn_numpy(numpy: Any) -> None:
    _learn(numpy.ndarray, _describe_array, _array_print)
    for name in ("float64", "float32", "int64", "int32", "uint8", "bool_", "uint64", "int8", "int16"):
        _learn(getattr(numpy, name), lambda value: str(value.item()))


def _learn_pandas(pandas: Any) -> None:
    _learn(pandas.DataFrame, _describe_frame, _blocks_print)
    _learn(pandas.Series, _describe_series, _blocks_print)
    _learn(pandas.Timestamp, lambda value: f"timestamp {value.value} ns")
    for name in ("Index", "RangeIndex", "DatetimeIndex"):
        _learn(getattr(pandas, name), lambda value: f"index of {len(value)}")


_not_loaded = {"numpy": _learn_numpy, "pandas": _learn_pandas}
"""Libraries whose types are not known yet."""


def _describe_array(value: Any) -> str:
    shape = "x".join(map(str, value.shape)) or "scalar"
    text = f"{shape} {value.dtype.char if value.dtype.kind == 'V' else value.dtype}"
    if value.dtype.kind not in _PLAIN_KINDS or not value.size:
        return text
    head = ", ".join(str(item)[:20] for item in value.flat[:_MAX_ELEMENTS].tolist())
    return f"{text} [{head}{', ...' if value.size > _MAX_ELEMENTS else ''}]"


def _describe_frame(value: Any) -> str:
    manager = value._mgr
    columns, blocks = manager.axes[0], manager.blocks
    count = len(columns)
    labels = _labels(columns)
    shown = []
    # Through the block's number: iget makes a new array for each column, at fifteen times the cost.
    for position, number in enumerate(manager.blknos[:_MAX_COLUMNS].tolist()):
        label = labels[position]
        name = label if type(label) is str else type(label).__name__
        shown.append(f"{name[:30]}: {_dtype_text(blocks[number].values.dtype)}")
    more = f", ... {count - _MAX_COLUMNS} more" if count > _MAX_COLUMNS else ""
    return f"{len(manager.axes[1])}x{count} [{', '.join(shown)}{more}]"


def _labels(columns: Any) -> Any:
    """Something to index for a label; where they are Python objects the array that holds them, which an
    Index asks with ten times the effort."""
    array = getattr(getattr(columns, "_data", None), "_ndarray", None)
    return columns if array is None or array.dtype.kind != "O" else array


def _dtype_text(dtype: Any) -> str:
    text = _dtype_texts.get(id(dtype))
    if text is None:
        if len(_dtype_texts) >= _MAX_DTYPES:
            _dtype_texts.clear()
            _kept_dtypes.clear()
        text = _dtype_texts[id(dtype)] = str(dtype)
        _kept_dtypes.append(dtype)
    return text


_dtype_texts: dict[int, str] = {}
_kept_dtypes: list[Any] = []
"""Keeps the ids above from being given to others."""
_MAX_DTYPES = 256


def _describe_series(value: Any) -> str:
    manager = value._mgr
    return f"{len(manager.axes[0])} {_dtype_text(manager.blocks[0].dtype)}"


def _blocks_print(value: Any) -> Any:
    try:
        manager = value._mgr
    except AttributeError:  # made without its constructor
        return None
    axes = manager.axes
    return (id(manager), id(axes[0]), id(axes[-1]), *map(id, manager.blocks))


def _array_print(value: Any) -> Any:
    if value.nbytes <= _MAX_HASHED_BYTES and value.dtype.kind in _PLAIN_KINDS:
        return (value.shape, value.tobytes())
    return None


_MAX_HASHED_BYTES = 16 * 1024
