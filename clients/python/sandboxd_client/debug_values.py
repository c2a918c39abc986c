"""Values of debug steps as Python objects and as short text; made from pictures, never from the objects."""

from typing import Any

from sandboxd_api.v1 import step_pb2

from sandboxd_client.value_types import CutBytes, CutDict, CutList, CutSet, CutText, CutTuple, Description

_SHAPES = step_pb2.DebugContainer


def debug_natural(value: step_pb2.DebugValue) -> Any:
    """The Python object that `value` pictures; what has no natural one is a `Description`."""
    match value.WhichOneof("kind"):
        case "none":
            return None
        case "boolean":
            return value.boolean
        case "integer":
            return value.integer
        case "floating":
            return value.floating
        case "text":
            cut = value.length > len(value.text)
            return CutText(value.text, value.length) if cut else value.text
        case "data":
            cut = value.length > len(value.data)
            return CutBytes(value.data, value.length) if cut else value.data
        case "container":
            return _container(value)
        case _:
            return Description(type_name=value.type_name, text=_other(value), truncated=True)


def _container(value: step_pb2.DebugValue) -> Any:
    found = value.container
    items = [debug_natural(item) for item in found.items]
    cut = value.length > len(items)
    match found.shape:
        case _SHAPES.SHAPE_TUPLE:
            return CutTuple(items, value.length) if cut else tuple(items)
        case _SHAPES.SHAPE_SET:
            members = [_key(item) for item in items]
            return CutSet(members, value.length) if cut else set(members)
        case _SHAPES.SHAPE_MAPPING:
            keys = [_key(debug_natural(key)) for key in found.keys]
            entries = dict(zip(keys, items, strict=False))
            return CutDict(entries, value.length) if cut else entries
        case _SHAPES.SHAPE_INSTANCE:
            return Description(type_name=value.type_name, text=debug_text(value), truncated=cut)
        case _:
            return CutList(items, value.length) if cut else items


def _key(item: Any) -> Any:
    try:
        hash(item)
    except TypeError:
        return Description(type_name=type(item).__qualname__, text=repr(item)[:200], truncated=True)
    return item


def debug_text(value: step_pb2.DebugValue) -> str:
    """The value as short text for people."""
    match value.WhichOneof("kind"):
        case "none":
            return "None"
        case "boolean":
            return str(value.boolean)
        case "integer":
            return str(value.integer)
        case "floating":
            return repr(value.floating)
        case "text":
            return repr(value.text) + _more(value, len(value.text))
        case "data":
            return repr(value.data) + _more(value, len(value.data))
        case "container":
            return _container_text(value)
        case _:
            return _other(value)


def _more(value: step_pb2.DebugValue, shown: int) -> str:
    return f"… ({value.length})" if value.length > shown else ""


def _container_text(value: step_pb2.DebugValue) -> str:
    found = value.container
    items = [debug_text(item) for item in found.items]
    if found.shape == _SHAPES.SHAPE_MAPPING:
        keys = [debug_text(key) for key in found.keys]
        items = [f"{key}: {item}" for key, item in zip(keys, items, strict=False)]
    if found.shape == _SHAPES.SHAPE_INSTANCE:
        items = [f"{name}={item}" for name, item in zip(found.attributes, items, strict=False)]
    if value.length > len(items):
        items.append(f"… ({value.length})")
    start, end = {
        _SHAPES.SHAPE_TUPLE: ("(", ",)" if len(items) == 1 else ")"),
        _SHAPES.SHAPE_SET: ("{", "}"),
        _SHAPES.SHAPE_MAPPING: ("{", "}"),
        _SHAPES.SHAPE_INSTANCE: (f"{value.type_name or 'object'}(", ")"),
    }.get(found.shape, ("[", "]"))
    return start + ", ".join(items) + end


def _other(value: step_pb2.DebugValue) -> str:
    match value.WhichOneof("kind"):
        case "summary":
            return value.summary
        case "reference":
            return f"<the object #{value.reference} above>"
        case "deferred":
            return f"<not looked at: {value.deferred}>"
        case _:
            return "<unknown>"
