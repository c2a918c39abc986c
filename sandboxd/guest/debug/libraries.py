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

_MAX_COLUMNS = 10
_MAX_ELEMENTS = 8
_PLAIN_KINDS = "biufcSUMm"
"""numpy dtype kinds whose elements are no Python objects."""


def _with_safe_zone(value: Any) -> str:
    if type(value.tzinfo) in (type(None), datetime.timezone):
        return str(value)
    return str(value.replace(tzinfo=None)) + " with a zone"


# Keyed by id(type): hashing a class runs its metaclass's __hash__.
_described: dict[int, Callable[[Any], str]] = {
    id(datetime.datetime): _with_safe_zone,
    id(datetime.date): str,
    id(datetime.time): _with_safe_zone,
    id(datetime.timedelta): str,
    id(decimal.Decimal): str,
    id(fractions.Fraction): lambda value: f"{value.numerator}/{value.denominator}",
    id(uuid.UUID): str,
    id(complex): str,
    id(range): repr,
    id(slice): lambda _value: "slice",
    id(re.Pattern): lambda value: f"pattern of {len(value.pattern)} characters",
    id(bytearray): lambda value: f"bytearray of {len(value)} bytes",
}
_loaded: set[str] = set()


def library_summary(value: Any, cls: type) -> str | None:
    """What `value` is, or None when its type is not one of those known here."""
    describe = _described.get(id(cls))
    if describe is None and _load():
        describe = _described.get(id(cls))
    if describe is None:
        return None
    try:
        return describe(value)
    except (ValueError, OverflowError, TypeError, AttributeError):
        return cls.__name__  # one of the types above, so nobody's own name


def is_described(cls: type) -> bool:
    """Whether objects of `cls` are shown by description, not by their parts."""
    return id(cls) in _described


def _load() -> bool:
    """Learns the types of libraries that were loaded meanwhile; whether there were new ones."""
    found = False
    for library, learn in (("numpy", _learn_numpy), ("pandas", _learn_pandas)):
        if library not in _loaded and library in sys.modules:
            module = sys.modules[library]
            if getattr(getattr(module, "__spec__", None), "_initializing", False):
                continue
            _loaded.add(library)
            learn(module)
            found = True
    return found


def _learn_numpy(numpy: Any) -> None:
    _described[id(numpy.ndarray)] = _describe_array
    for name in ("float64", "float32", "int64", "int32", "uint8", "bool_", "uint64", "int8", "int16"):
        _described[id(getattr(numpy, name))] = lambda value: str(value.item())


def _learn_pandas(pandas: Any) -> None:
    _described[id(pandas.DataFrame)] = _describe_frame
    _described[id(pandas.Series)] = _describe_series
    _described[id(pandas.Timestamp)] = lambda value: f"timestamp {value.value} ns"
    for name in ("Index", "RangeIndex", "DatetimeIndex"):
        _described[id(getattr(pandas, name))] = lambda value: f"index of {len(value)}"


def _describe_array(value: Any) -> str:
    shape = "x".join(map(str, value.shape)) or "scalar"
    text = f"{shape} {value.dtype.char if value.dtype.kind == 'V' else value.dtype}"
    if value.dtype.kind not in _PLAIN_KINDS or not value.size:
        return text
    head = ", ".join(str(item)[:20] for item in value.flat[:_MAX_ELEMENTS].tolist())
    return f"{text} [{head}{', ...' if value.size > _MAX_ELEMENTS else ''}]"


def _describe_frame(value: Any) -> str:
    manager = value._mgr
    columns = manager.axes[0]
    shown = []
    for position in range(min(len(columns), _MAX_COLUMNS)):
        label = columns[position]
        name = label if type(label) is str else type(label).__name__
        # Through the block's number: iget makes a new array for each column, at fifteen times the cost.
        shown.append(f"{name[:30]}: {_dtype_text(manager.blocks[manager.blknos[position]].dtype)}")
    more = f", ... {len(columns) - _MAX_COLUMNS} more" if len(columns) > _MAX_COLUMNS else ""
    return f"{len(manager.axes[1])}x{len(columns)} [{', '.join(shown)}{more}]"


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


def library_fingerprint(value: Any, cls: type) -> Any:
    """Something cheap that differs when an array or table changed; None when it cannot be told."""
    if id(cls) not in _described:
        return None
    name = cls.__name__
    if name in ("DataFrame", "Series"):
        manager = value._mgr
        axes = manager.axes
        return (id(manager), id(axes[0]), id(axes[-1]), *map(id, manager.blocks))
    if name == "ndarray" and value.nbytes <= _MAX_HASHED_BYTES and value.dtype.kind in _PLAIN_KINDS:
        return (value.shape, value.tobytes())
    if name == "bytearray":
        return bytes(value) if len(value) <= _MAX_HASHED_BYTES else len(value)
    return None


_MAX_HASHED_BYTES = 16 * 1024
