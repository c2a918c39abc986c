"""Descriptions as the tests of them write them down."""

from typing import Any

import msgspec

from sandboxd.channel import values as v
from sandboxd.channel.messages import Finished
from sandboxd.guest.describe import to_value

SIZE = 1 << 20


def value_of(given: Any) -> v.Value:
    """The whole value of an object, which also goes over the channel."""
    value, truncated = to_value(given, size=SIZE)
    assert not truncated
    encoded = msgspec.msgpack.encode(Finished(run_id=1, value=value))
    assert msgspec.msgpack.decode(encoded, type=Finished).value is not None
    return value


def text_value(text: str, kind: str = "") -> v.TextValue:
    """A text that was not cut; `kind` is the type of one that is no plain str."""
    return v.TextValue(text=text, total_length=len(text), type_name=kind)
