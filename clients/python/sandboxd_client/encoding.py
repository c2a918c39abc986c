"""Plain Python objects as typed values of the wire: parameters of a query, data to analyze."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sandboxd_api.v1 import value_pb2

from sandboxd_client.errors import InvalidArgument

_INT64 = range(-(2**63), 2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode(thing: object, *, field: str) -> value_pb2.Value:
    """The typed value of `thing`; `InvalidArgument` naming `field` where it has none."""
    for kind, convert in _ENCODERS:
        if isinstance(thing, kind):
            return convert(thing, field)
    item = getattr(thing, "item", None)
    if callable(item) and type(thing).__module__ == "numpy":  # a numpy scalar
        return encode(item(), field=field)
    names = "None, bool, int, float, complex, Decimal, str, bytes, datetime, date, time, timedelta, UUID, "
    problem = f"{type(thing).__qualname__} has no typed form; give {names}list, tuple, set or dict"
    raise InvalidArgument(f"{field}: {problem}", violations={field: problem})


def _integer(thing: Any, field: str) -> value_pb2.Value:
    if thing in _INT64:
        return value_pb2.Value(integer=int(thing))
    try:
        return value_pb2.Value(big_integer=str(thing))
    except ValueError as error:  # the interpreter's guard against long conversions
        raise InvalidArgument(f"{field}: {error}", violations={field: str(error)}) from None


def _complex(thing: Any, _field: str) -> value_pb2.Value:
    return value_pb2.Value(complex=value_pb2.Complex(real=thing.real, imaginary=thing.imag))


def _datetime(thing: Any, _field: str) -> value_pb2.Value:
    offset = thing.utcoffset()
    if offset is None:
        return value_pb2.Value(local_datetime=thing.isoformat())
    micros = (thing - _EPOCH) // timedelta(microseconds=1)
    seconds, rest = divmod(micros, 1_000_000)
    stamp = value_pb2.ZonedTimestamp(offset_seconds=int(offset.total_seconds()))
    stamp.instant.seconds = seconds
    stamp.instant.nanos = rest * 1000
    return value_pb2.Value(timestamp=stamp)


def _list(thing: Any, field: str) -> value_pb2.Value:
    items = [encode(item, field=f"{field}[{place}]") for place, item in enumerate(thing)]
    return value_pb2.Value(list=value_pb2.ListValue(items=items, total_count=len(items)))


def _tuple(thing: Any, field: str) -> value_pb2.Value:
    items = [encode(item, field=f"{field}[{place}]") for place, item in enumerate(thing)]
    return value_pb2.Value(tuple=value_pb2.TupleValue(items=items, total_count=len(items)))


def _set(thing: Any, field: str) -> value_pb2.Value:
    items = [encode(item, field=f"{field}[]") for item in thing]
    frozen = isinstance(thing, frozenset)
    return value_pb2.Value(set=value_pb2.SetValue(items=items, total_count=len(items), frozen=frozen))


def _mapping(thing: Any, field: str) -> value_pb2.Value:
    if all(isinstance(key, str) for key in thing):
        fields = [
            value_pb2.RecordValue.Field(name=key, value=encode(item, field=f"{field}.{key}"))
            for key, item in thing.items()
        ]
        return value_pb2.Value(record=value_pb2.RecordValue(fields=fields, total_count=len(fields)))
    entries = [
        value_pb2.MapValue.Entry(key=encode(key, field=field), value=encode(item, field=f"{field}[{key!r}]"))
        for key, item in thing.items()
    ]
    return value_pb2.Value(map=value_pb2.MapValue(entries=entries, total_count=len(entries)))


# In this order: a bool is an int and a datetime is a date.
_ENCODERS: tuple[tuple[type | tuple[type, ...], Callable[[Any, str], value_pb2.Value]], ...] = (
    (type(None), lambda _thing, _field: value_pb2.Value(null=value_pb2.Null())),
    (bool, lambda thing, _field: value_pb2.Value(boolean=thing)),
    (int, _integer),
    (float, lambda thing, _field: value_pb2.Value(floating=thing)),
    (complex, _complex),
    (Decimal, lambda thing, _field: value_pb2.Value(decimal=str(thing))),
    (str, lambda thing, _field: value_pb2.Value(text=thing)),
    ((bytes, bytearray, memoryview), lambda thing, _field: value_pb2.Value(data=bytes(thing))),
    (datetime, _datetime),
    (date, lambda thing, _field: value_pb2.Value(date=thing.isoformat())),
    (time, lambda thing, _field: value_pb2.Value(time=thing.isoformat())),
    (
        timedelta,
        lambda thing, _field: value_pb2.Value(duration_micros=thing // timedelta(microseconds=1)),
    ),
    (UUID, lambda thing, _field: value_pb2.Value(uuid=str(thing))),
    (Mapping, _mapping),
    (list, _list),
    (tuple, _tuple),
    ((set, frozenset), _set),
)


def json_or_csv(data: object, *, field: str) -> tuple[str, str]:
    """`("json" | "csv", text)` of `data`: a DataFrame is CSV; text is JSON where it is that, else CSV."""
    if isinstance(data, str):
        return ("json" if _is_json(data) else "csv"), data
    to_csv = getattr(data, "to_csv", None)
    if callable(to_csv):
        return "csv", str(to_csv(index=False))
    try:
        return "json", json.dumps(data, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        problem = f"give what json.dumps takes, JSON or CSV text, or a DataFrame ({error})"
        raise InvalidArgument(f"{field}: {problem}", violations={field: problem}) from error


def _is_json(text: str) -> bool:
    """Whether `text` is a JSON array or object; a bare number or word is a CSV header as well."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
