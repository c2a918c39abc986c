"""Keeps the head and the tail of a stream of bytes, and counts the rest."""

from collections import deque

from sandboxd.executions.model import Output


class HeadAndTail:
    """Holds at most `limit` bytes: half for the head, half for the tail once it overflows."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._tail_limit = limit // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.total_bytes = 0

    def add(self, data: bytes) -> None:
        """Takes the next bytes; constant work per byte whatever came before."""
        self.total_bytes += len(data)
        room = self._limit - len(self._head) if not self._tail_bytes else 0
        if len(data) <= room:
            self._head += data
            return
        self._head += data[:room]
        self._add_tail(data[room:])

    def output(self) -> Output:
        """What is kept: all of it, or head and tail with the cut between."""
        if self.total_bytes <= self._limit:
            return Output(data=bytes(self._head), total_bytes=self.total_bytes, head_bytes=self.total_bytes)
        head = bytes(self._head[: self._limit - self._tail_limit])
        rest = bytes(self._head[self._limit - self._tail_limit :]) + b"".join(self._tail)
        tail = rest[len(rest) - self._tail_limit :] if self._tail_limit else b""
        return Output(data=head + tail, total_bytes=self.total_bytes, head_bytes=len(head))

    def _add_tail(self, data: bytes) -> None:
        if not data:
            return
        self._tail.append(data)
        self._tail_bytes += len(data)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= self._tail_limit:
            self._tail_bytes -= len(self._tail.popleft())
