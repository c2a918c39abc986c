"""Owns what a guest has not taken yet."""

import socket
from collections import deque
from itertools import islice

from sandboxd.channel.framing import EncodedMessage, Outgoing, encode_frame

_PIECES_AT_ONCE = 16


class Backlog:
    """Pieces of frames, sent in order and never copied: a result of 30 MB would stall the loop."""

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self._size = 0

    def __len__(self) -> int:
        """Bytes."""
        return self._size

    def add(self, message: Outgoing) -> None:
        """Queues a message."""
        pieces = message.pieces if isinstance(message, EncodedMessage) else (encode_frame(message),)
        for piece in pieces:
            if len(piece):
                self._pieces.append(memoryview(piece))
                self._size += len(piece)

    def send(self, channel: socket.socket) -> None:
        """Sends what the socket takes; raises `BlockingIOError` when that is not all of it."""
        while self._pieces:
            sent = channel.sendmsg(islice(self._pieces, _PIECES_AT_ONCE))
            self._size -= sent
            while self._pieces and sent >= len(self._pieces[0]):
                sent -= len(self._pieces.popleft())
            if sent:
                self._pieces[0] = self._pieces[0][sent:]

    def clear(self) -> None:
        """Drops everything."""
        self._pieces.clear()
        self._size = 0
