"""Reads pictures of values back: as text for people and as plain data for questions about a trace."""

import struct
from typing import Any

from sandboxd.guest.debug.values import SHAPE_INSTANCE, SHAPE_MAPPING, SHAPE_SET, SHAPE_TUPLE
from sandboxd.guest.debug.wire import MalformedMessage, read_fields, read_varint, unzigzag

_MAX_LEVELS = 12
_DEFAULT_CHARACTERS = 60


class Opaque:
    """A value of which only a description was recorded."""

    __slots__ = ("length", "text")

    def __init__(self, text: str, length: int | None = None) -> None:
        self.text = text
        self.length = length
        """How many parts it has, None when that is not known."""


class Partial:
    """A container of which only the first parts were recorded."""

    __slots__ = ("length", "parts")

    def __init__(self, parts: Any, length: int) -> None:
        self.parts = parts
        self.length = length


def read_value(picture: bytes, level: int = 0) -> Any:
    """The picture as plain data; `Partial` and `Opaque` where it is not all there."""
    if level > _MAX_LEVELS:
        raise MalformedMessage("nested too deeply")
    fields = dict(read_fields(picture))
    length = _number(fields.get(13))
    name = _text(fields.get(12))
    if 7 in fields:
        return _read_container(fields, length, name, level)
    value = _read_scalar(fields, name)
    if length and isinstance(value, str | bytes):
        return Partial(value, length)
    return value


def _read_scalar(fields: dict[int, int | bytes], name: str) -> Any:
    if 3 in fields:
        return unzigzag(_number(fields[3]))
    if 5 in fields:
        return _text(fields[5])
    if 2 in fields:
        return bool(fields[2])
    if 1 in fields:
        return None
    if 4 in fields:
        content = fields[4]
        return struct.unpack("<d", content)[0] if isinstance(content, bytes) else 0.0
    if 6 in fields:
        return fields[6]
    if 8 in fields:
        text = _text(fields[8])
        return int(text) if name == "int" and text.lstrip("-").isdigit() else Opaque(text)
    return Opaque("..." if 9 in fields else "(not looked at)")


def _read_container(  # noqa: C901  one case a field and a shape
    fields: dict[int, int | bytes], length: int, name: str, level: int
) -> Any:
    body = fields[7]
    assert isinstance(body, bytes)
    shape, items, keys, attributes = 0, [], [], []
    for number, content in read_fields(body):
        if number == 1:
            shape = _number(content)
        elif isinstance(content, bytes):
            if number == 2:
                items.append(read_value(content, level + 1))
            elif number == 3:
                keys.append(read_value(content, level + 1))
            elif number == 4:
                attributes.append(_text(content))
    if shape == SHAPE_INSTANCE:
        return Instance(name, dict(zip(attributes, items, strict=False)), length)
    parts: Any = items
    if shape == SHAPE_MAPPING:
        parts = {_key(key): value for key, value in zip(keys, items, strict=False)}
    elif shape == SHAPE_TUPLE:
        parts = tuple(items)
    elif shape == SHAPE_SET:
        parts = {_key(item) for item in items}
    return Partial(parts, length) if length > len(parts) else parts


class Instance:
    """An object with attributes."""

    __slots__ = ("attributes", "length", "name")

    def __init__(self, name: str, attributes: dict[str, Any], length: int) -> None:
        self.name = name
        self.attributes = attributes
        self.length = length


def _key(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return show_plain(value)
    return value


def _number(value: int | bytes | None) -> int:
    return value if isinstance(value, int) else 0


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def show(picture: bytes, characters: int = _DEFAULT_CHARACTERS) -> str:
    """The picture as short text, cut at `characters` with "..."."""
    try:
        if picture[:1] == b"\x18":  # an int, by far the most frequent
            number, end = read_varint(picture, 1)
            if end == len(picture):
                return str(unzigzag(number))
        fields = dict(read_fields(picture))
        if 8 in fields and 12 in fields and _text(fields[12]) != "int":
            text = f"{_text(fields[12])}({_text(fields[8])})"
        else:
            text = show_plain(read_value(picture))
    except (MalformedMessage, AssertionError):
        text = "(unreadable)"
    return text if len(text) <= characters else text[: max(characters - 3, 0)] + "..."


def show_plain(value: Any) -> str:
    """Plain data as text, much like `repr`."""
    if isinstance(value, Opaque):
        return f"<{value.text}>"
    if isinstance(value, Instance):
        inner = ", ".join(f"{name}={show_plain(part)}" for name, part in value.attributes.items())
        return f"{value.name}({inner}{', ...' if value.length > len(value.attributes) else ''})"
    if isinstance(value, Partial):
        return _show_partial(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{show_plain(key)}: {show_plain(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(show_plain, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(show_plain, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, set):
        return "{" + ", ".join(sorted(map(show_plain, value))) + "}" if value else "set()"
    return repr(value)


def _show_partial(value: Partial) -> str:
    if isinstance(value.parts, str | bytes):
        return f"{value.parts!r}... {value.length} in all"
    text = show_plain(value.parts)
    if not value.parts:
        return f"{text[:1]}... {value.length} in all{text[-1:]}"
    return f"{text[:-1]}, ... {value.length} in all{text[-1]}"
