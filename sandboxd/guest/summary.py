"""One bounded line about any value, made without running a line of the value's own code.

What a value is is decided by its exact type; a subclass is read through its builtin base, an instance
through its `__dict__`, never by getattr, `__repr__` or `__len__` of its own.
"""

import collections
import datetime
import decimal
import fractions
import pathlib
import types
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from sandboxd.channel.messages import VariableReport
from sandboxd.channel.values import Value
from sandboxd.guest.rows import Rows
from sandboxd.guest.type_names import clean_text, qualified_name, type_name

DEFAULT_LIMIT = 300
_TEXT_LENGTH = 80
_DEPTH = 3
_ELEMENTS = 10
_NODES = 64
_INT_BITS = 1024


def summarize(value: Any, *, limit: int = DEFAULT_LIMIT) -> tuple[str, bool]:
    """The line, at most `limit` characters, and whether anything was left out of it."""
    writer = _Summary()
    text = clean_text(writer.write(value, 0)).replace("\n", "\\n")
    if len(text) > limit:
        return f"{text[: limit - 3]}...", True
    return text, writer.truncated


def summarize_variable(name: str, value: Any, *, typed: Value | None = None) -> VariableReport:
    """A variable with its summary."""
    try:
        text, truncated = summarize(value)
    except Exception:  # a library's object in a broken state must not cost the whole report
        text, truncated = f"<{qualified_name(type(value))}>", True
    return VariableReport(
        name=clean_text(name, 200),
        type_name=type_name(type(value)),
        summary=text,
        truncated=truncated,
        value=typed,
    )


class _Summary:
    """One line being written: how much of it is left, and what it is inside of."""

    def __init__(self) -> None:
        self.truncated = False
        self._nodes = _NODES
        self._inside: list[int] = []

    def write(self, value: Any, depth: int) -> str:
        kind = type(value)
        self._nodes -= 1
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return scalar(self, value)
        if depth > _DEPTH or self._nodes <= 0:
            self.truncated = True
            return "..."
        if id(value) in self._inside:
            return "<cycle>"
        self._inside.append(id(value))
        try:
            return self._write_compound(value, kind, depth)
        finally:
            self._inside.pop()

    def _write_compound(self, value: Any, kind: type, depth: int) -> str:
        if issubclass(kind, _SHAPED):
            return _shaped(value, kind)
        for base, write in _CONTAINERS:
            if issubclass(kind, base):
                text = write(self, value, depth)
                return text if kind is base else f"{qualified_name(kind)}({text})"
        for base, scalar in _SCALARS.items():
            if issubclass(kind, base):
                return f"{qualified_name(kind)}({scalar(self, value)})"
        return self._instance(value, kind, depth)

    def text(self, value: str) -> str:
        if str.__len__(value) <= _TEXT_LENGTH:
            return str.__repr__(value)
        self.truncated = True
        return f"{str.__getitem__(value, slice(0, _TEXT_LENGTH))!r}... ({str.__len__(value)} characters)"

    def blob(self, value: Any) -> str:
        kind = bytes if issubclass(type(value), bytes) else bytearray
        if kind.__len__(value) <= _TEXT_LENGTH:
            return repr(bytes(kind.__getitem__(value, slice(None))))
        self.truncated = True
        return f"{bytes(kind.__getitem__(value, slice(0, _TEXT_LENGTH)))!r}... ({kind.__len__(value)} bytes)"

    def integer(self, value: int) -> str:
        bits = int.bit_length(value)
        return int.__repr__(value) if bits <= _INT_BITS else f"<int of {bits} bits>"

    def sequence(self, items: Iterable[Any], count: int, brackets: str, depth: int) -> str:
        shown = [self.write(item, depth + 1) for item, _ in zip(items, range(_ELEMENTS), strict=False)]
        return self._joined(shown, count, brackets)

    def mapping(self, items: Iterable[tuple[Any, Any]], count: int, depth: int) -> str:
        shown = [
            f"{self.write(key, depth + 1)}: {self.write(value, depth + 1)}"
            for (key, value), _ in zip(items, range(_ELEMENTS), strict=False)
        ]
        return self._joined(shown, count, "{}")

    def _joined(self, shown: list[str], count: int, brackets: str) -> str:
        if count > len(shown):
            self.truncated = True
            shown.append(f"... {count - len(shown)} more")
        elif brackets == "()" and count == 1:
            shown.append("")
        return f"{brackets[0]}{', '.join(shown).rstrip() if shown != [''] else ''}{brackets[1]}"

    def _instance(self, value: Any, kind: type, depth: int) -> str:
        if issubclass(kind, type):
            return f"<class {type_name(value)}>"
        if kind in _FUNCTIONS:
            name = object.__getattribute__(value, "__qualname__")
            return f"<{_FUNCTIONS[kind]} {clean_text(name, _TEXT_LENGTH)}>"
        if kind is types.ModuleType:
            name = object.__getattribute__(value, "__dict__").get("__name__", "?")
            return f"<module {name if type(name) is str else '?'}>"
        attributes = instance_attributes(value)
        if attributes is None:
            return f"<{qualified_name(kind)} object>"
        shown = [
            f"{clean_text(name, _TEXT_LENGTH)}={self.write(each, depth + 1)}"
            for (name, each), _ in zip(attributes.items(), range(_ELEMENTS), strict=False)
            if isinstance(name, str)
        ]
        return self._joined([f"{qualified_name(kind)}", *shown], len(attributes) + 1, "<>")


def instance_attributes(value: Any) -> dict[str, Any] | None:
    """The attributes that an instance itself holds, in `__dict__` and slots, read without its code."""
    found: dict[str, Any] = {}
    has_any = False
    for kind in reversed(type.__dict__["__mro__"].__get__(type(value))):
        for name, member in list(type.__dict__["__dict__"].__get__(kind).items()):
            if type(member) is types.MemberDescriptorType and not name.startswith("__"):
                has_any = True
                try:
                    found[name] = member.__get__(value)
                except AttributeError:
                    continue
            elif name == "__dict__" and type(member) is types.GetSetDescriptorType:
                attributes = member.__get__(value)
                if type(attributes) is dict:
                    has_any = True
                    found.update(attributes)
    return found if has_any else None


def _shaped(value: Any, kind: type) -> str:
    if kind is Rows:
        return f"Rows: {len(value)} of {len(value.columns)} columns [{', '.join(value.columns[:_ELEMENTS])}]"
    if issubclass(kind, np.ndarray):
        shape = np.ndarray.shape.__get__(value)
        dtype = np.ndarray.dtype.__get__(value)
        head = ""
        if kind is np.ndarray and dtype.kind in "biuf" and value.size:
            items = ", ".join(str(item) for item in value.flat[:5].tolist())
            head = f" [{items}{', ...' if value.size > 5 else ''}]"
        return f"array shape {shape} dtype {dtype}{head}"
    if kind is pd.DataFrame:
        columns = ", ".join(_label(label) for label in value.columns[:_ELEMENTS])
        more = ", ..." if value.shape[1] > _ELEMENTS else ""
        return f"DataFrame {value.shape[0]} rows x {value.shape[1]} columns [{columns}{more}]"
    if kind is pd.Series:
        return f"Series of {value.shape[0]}, dtype {value.dtype}"
    if kind in INDEXES:
        return f"{kind.__name__} of {value.shape[0]}, dtype {value.dtype}"
    return f"<{qualified_name(kind)} object>"


def _label(label: Any) -> str:
    return clean_text(label, 40) if type(label) is str else summarize(label, limit=40)[0]


def _plain(write: Callable[[Any], str]) -> Callable[[_Summary, Any], str]:
    return lambda _summary, value: write(value)


def _moment(value: datetime.datetime) -> str:
    kind = pd.Timestamp if issubclass(type(value), pd.Timestamp) else datetime.datetime
    zone = datetime.datetime.tzinfo.__get__(value)
    if zone is None or type(zone) is datetime.timezone:
        return kind.isoformat(value)  # type: ignore[arg-type]
    # Any other zone is asked nothing: it may be the user's own.
    return f"{kind.isoformat(kind.replace(value, tzinfo=None))} ({qualified_name(type(zone))})"  # type: ignore[arg-type]


INDEXES = (
    pd.Index, pd.RangeIndex, pd.MultiIndex, pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex,
    pd.CategoricalIndex, pd.IntervalIndex,
)  # fmt: skip
_SHAPED = (Rows, np.ndarray, pd.DataFrame, pd.Series, pd.Index)
_FUNCTIONS = {
    types.FunctionType: "function",
    types.BuiltinFunctionType: "built-in function",
}
_SCALARS: dict[type, Callable[[_Summary, Any], str]] = {
    type(None): _plain(lambda _: "None"),
    bool: _plain(bool.__repr__),
    int: _Summary.integer,
    float: _plain(float.__repr__),
    complex: _plain(complex.__repr__),
    str: _Summary.text,
    bytes: _Summary.blob,
    bytearray: _Summary.blob,
    type(...): _plain(lambda _: "..."),
    range: _plain(range.__repr__),
    datetime.datetime: _plain(_moment),
    datetime.date: _plain(datetime.date.isoformat),
    datetime.time: _plain(lambda value: datetime.time.isoformat(datetime.time.replace(value, tzinfo=None))),
    datetime.timedelta: _plain(datetime.timedelta.__str__),
    decimal.Decimal: _plain(lambda value: f"Decimal({decimal.Decimal.__str__(value)[:_TEXT_LENGTH]!r})"),
    uuid.UUID: _plain(uuid.UUID.__str__),
    fractions.Fraction: _plain(lambda value: f"Fraction of {int.bit_length(value._numerator)} bits"),
    pathlib.PosixPath: _plain(lambda value: f"PosixPath({str(value)[:_TEXT_LENGTH]!r})"),
    pd.Timestamp: _plain(lambda value: f"Timestamp({_moment(value)!r})"),
    pd.Timedelta: _plain(lambda value: f"Timedelta({pd.Timedelta.isoformat(value)!r})"),
    type(pd.NaT): _plain(lambda _: "NaT"),
    type(pd.NA): _plain(lambda _: "<NA>"),
    **{
        kind: _plain(lambda value: f"{type(value).__name__}({value.item()!r})"[:_TEXT_LENGTH])
        for kind in (
            np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
            np.float16, np.float32, np.float64, np.complex64, np.complex128, np.datetime64, np.timedelta64,
            np.str_, np.bytes_,
        )
    },
}  # fmt: skip
_CONTAINERS: tuple[tuple[type, Callable[[_Summary, Any, int], str]], ...] = (
    (dict, lambda self, value, depth: self.mapping(dict.items(value), dict.__len__(value), depth)),
    (list, lambda self, value, depth: self.sequence(list.__iter__(value), list.__len__(value), "[]", depth)),
    (
        tuple,
        lambda self, value, depth: self.sequence(tuple.__iter__(value), tuple.__len__(value), "()", depth),
    ),
    (set, lambda self, value, depth: self.sequence(set.__iter__(value), set.__len__(value), "{}", depth)),
    (
        frozenset,
        lambda self, value, depth: self.sequence(
            frozenset.__iter__(value), frozenset.__len__(value), "{}", depth
        ),
    ),
    (
        collections.deque,
        lambda self, value, depth: self.sequence(
            collections.deque.__iter__(value), collections.deque.__len__(value), "[]", depth
        ),
    ),
)
