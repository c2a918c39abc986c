"""Protobuf wire format by hand: what a guest, which may not import protobuf, writes and reads."""

import re
from collections.abc import Iterable, Iterator, Sequence

_SIXTY_FOUR_BITS = (1 << 64) - 1
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


def _long_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT_VARINTS = [_long_varint(number) for number in range(1 << 14)]

_CONTINUED = [bytes((number & 0x7F | 0x80, number >> 7 | 0x80)) for number in range(1 << 14)]
"""The first two bytes of a varint that goes on after them, by its low 14 bits."""


def varint(number: int) -> bytes:
    """`number` as a varint; negative ones as 64-bit two's complement."""
    if 0 <= number < 1 << 14:
        return _SHORT_VARINTS[number]
    if 0 <= number < 1 << 28:
        return _CONTINUED[number & 0x3FFF] + _SHORT_VARINTS[number >> 14]
    if 0 <= number < 1 << 42:
        return _CONTINUED[number & 0x3FFF] + _CONTINUED[number >> 14 & 0x3FFF] + _SHORT_VARINTS[number >> 28]
    return _long_varint(number & _SIXTY_FOUR_BITS)


def zigzag(number: int) -> int:
    """The unsigned form in which `sint64` is sent; `number` fits 64 bits."""
    return number << 1 if number >= 0 else ~(number << 1)


def number_field(field: int, number: int) -> bytes:
    """An integer, enum or bool field; nothing when it is zero."""
    if 0 < number < 1 << 14:
        return _SHORT_VARINTS[field << 3] + _SHORT_VARINTS[number]
    return _SHORT_VARINTS[field << 3] + varint(number) if number else b""


def bytes_field(field: int, data: bytes) -> bytes:
    """A bytes or message field, present also when it is empty."""
    length = len(data)
    if length < 1 << 14:
        return _SHORT_VARINTS[field << 3 | _DELIMITED] + _SHORT_VARINTS[length] + data
    return _SHORT_VARINTS[field << 3 | _DELIMITED] + varint(length) + data


def text_field(field: int, text: str) -> bytes:
    """A string field; nothing when it is empty. Lone surrogates, which the wire cannot hold, are escaped."""
    return bytes_field(field, text.encode("utf-8", "backslashreplace")) if text else b""


def packed_field(field: int, numbers: Sequence[int]) -> bytes:
    """A packed repeated integer field; nothing when it is empty."""
    if not numbers:
        return b""
    try:
        packed = bytes(numbers)
    except ValueError:
        packed = b"\x80"
    if packed.isascii():
        return bytes_field(field, packed)
    if min(numbers) >= 0 and max(numbers) < 1 << 28:
        short, more = _SHORT_VARINTS, _CONTINUED
        parts = [short[n] if n < 1 << 14 else more[n & 0x3FFF] + short[n >> 14] for n in numbers]
        return bytes_field(field, b"".join(parts))
    return bytes_field(field, b"".join(map(varint, numbers)))


def zigzag_field(field: int, numbers: Sequence[int]) -> bytes:
    """A packed repeated `sint64` field; nothing when it is empty."""
    if not numbers:
        return b""
    if min(numbers) >= 0 and max(numbers) < 1 << 27:
        short, more = _SHORT_VARINTS, _CONTINUED
        parts = [short[n << 1] if n < 1 << 13 else more[n << 1 & 0x3FFF] + short[n >> 13] for n in numbers]
        return bytes_field(field, b"".join(parts))
    return packed_field(field, [n << 1 if n >= 0 else ~(n << 1) for n in numbers])


class MalformedMessage(ValueError):
    """The bytes are not a message; a trace that user code overwrote looks like this."""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at `position` and the position after it."""
    number = shift = 0
    for _ in range(_MAX_VARINT_BYTES):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise MalformedMessage("a number does not end")


def read_tokens(data: bytes) -> list[bytes]:
    """The varints of a packed field, still encoded."""
    return _TOKEN.findall(data)


def read_packed(data: bytes) -> Sequence[int]:
    """The numbers of a packed field."""
    if data.isascii():
        return data
    return list(map(_NUMBERS.__getitem__, _TOKEN.findall(data)))


_TOKEN = re.compile(rb"[\x80-\xff]*[\x00-\x7f]")
_MAX_KNOWN_NUMBERS = 1 << 16


class _Numbers(dict[bytes, int]):
    """Numbers by their varints; learns them as they are asked for."""

    def __missing__(self, token: bytes) -> int:
        number = 0
        for byte in reversed(token):
            number = number << 7 | byte & 0x7F
        if len(self) < _MAX_KNOWN_NUMBERS:
            self[token] = number
        return number


_NUMBERS = _Numbers()


def unzigzag(number: int) -> int:
    """The signed number whose unsigned form is `number`."""
    return number >> 1 if not number & 1 else ~(number >> 1)


def read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: numbers as they were sent, fixed-width ones and the rest as bytes."""
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            number, position = read_varint(data, position)
            yield tag >> 3, number
            continue
        if wire_type == _DELIMITED:
            length, position = read_varint(data, position)
        elif wire_type == _FIXED64:
            length = 8
        elif wire_type == _FIXED32:
            length = 4
        else:
            raise MalformedMessage("an unknown wire type")
        if position + length > len(data):
            raise MalformedMessage("a field is longer than its message")
        yield tag >> 3, data[position : position + length]
        position += length


def join(parts: Iterable[bytes]) -> bytes:
    """The fields of a message, in a row."""
    return b"".join(parts)
