"""Length-prefixed, size-capped frames over a stream socket.

A frame is four bytes of length, big endian, and that many bytes of msgpack. The receiver decides
the largest frame it takes; a longer one ends the channel before a byte of it is buffered.
"""

import array
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from sandboxd.channel.messages import GuestMessage, HostMessage, values_in
from sandboxd.channel.values import MAX_WIRE_DEPTH, deeper_than

_HEADER = struct.Struct(">I")
MAX_HOST_FRAME_BYTES = 64 * 1024 * 1024
"""Frames from the host: bounded by the request limits of the edge."""
MAX_GUEST_FRAME_BYTES = 20 * 1024 * 1024
"""Frames from a guest: the largest result a caller may ask for, and room for the rest."""

_FD_BYTES = 4
_ANCILLARY_BYTES = socket.CMSG_SPACE(3 * _FD_BYTES)
"""Room for the descriptors of a copy."""

_encoder = msgspec.msgpack.Encoder()
_guest_decoder: msgspec.msgpack.Decoder[GuestMessage] = msgspec.msgpack.Decoder(GuestMessage)
_host_decoder: msgspec.msgpack.Decoder[HostMessage] = msgspec.msgpack.Decoder(HostMessage)


class ChannelBroken(Exception):
    """The peer broke the framing or said something that is not a message."""


Piece: TypeAlias = bytes | bytearray | memoryview


class EncodedMessage(NamedTuple):
    """A message as the pieces of its frame: large parts stay where they are."""

    pieces: tuple[Piece, ...]


Outgoing: TypeAlias = HostMessage | EncodedMessage
"""What the host may send to a guest."""


def frame_of(*body: Piece) -> EncodedMessage:
    """The frame of a body that is msgpack already."""
    return EncodedMessage((_HEADER.pack(sum(map(len, body))), *body))


def encode_frame(message: Any) -> bytes:
    """One message as a frame."""
    body = _encoder.encode(message)
    return _HEADER.pack(len(body)) + body


def decode_guest_message(body: bytes) -> GuestMessage:
    """A guest's message, decoded strictly; anything else is `ChannelBroken`."""
    try:
        message = _guest_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise ChannelBroken(f"not a guest message: {type(error).__name__}") from error
    if any(value is not None and deeper_than(value, MAX_WIRE_DEPTH) for value in values_in(message)):
        raise ChannelBroken("a value has too many levels")
    return message


class FrameBuffer:
    """Collects bytes from a stream and gives out the bodies of complete frames."""

    def __init__(self, *, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Adds `data` and yields every frame body that is now complete."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > self.max_frame_bytes:
                raise ChannelBroken(f"frame of {length} bytes, at most {self.max_frame_bytes}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield body


def receive_host_message(sock: socket.socket, descriptors: list[int] | None = None) -> HostMessage | None:
    """Blocks for the host's next message; None when the host has closed the channel.

    Descriptors that travel beside a message are added to `descriptors`; without it the kernel drops them.
    """
    if descriptors is None:
        header = _receive_exactly(sock, _HEADER.size)
    else:
        header = _receive_header(sock, descriptors)
    if not header:
        return None
    (length,) = _HEADER.unpack(header)
    if length > MAX_HOST_FRAME_BYTES:
        raise ChannelBroken(f"frame of {length} bytes, at most {MAX_HOST_FRAME_BYTES}")
    body = _receive_exactly(sock, length)
    return None if body is None else _host_decoder.decode(body)


def _receive_header(sock: socket.socket, descriptors: list[int]) -> bytes | None:
    """Descriptors are attached to the first byte of the frame they were sent with."""
    data, ancillary, _, _ = sock.recvmsg(_HEADER.size, _ANCILLARY_BYTES, socket.MSG_WAITALL)
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors += array.array("i", payload[: len(payload) - len(payload) % _FD_BYTES])
    if not data or len(data) == _HEADER.size:
        return data or None
    rest = _receive_exactly(sock, _HEADER.size - len(data))
    return None if rest is None else data + rest


def _receive_exactly(sock: socket.socket, count: int) -> bytes | None:
    data = sock.recv(count, socket.MSG_WAITALL)
    while len(data) < count:
        more = sock.recv(count - len(data), socket.MSG_WAITALL)
        if not more:
            return None
        data += more
    return data
