"""Which request ids may have come before: a no is certain and costs no look into the database."""

import hashlib
from typing import NamedTuple

_HASHES = 4
_BITS_A_KEY = 16


class _Layer(NamedTuple):
    bits: bytearray
    capacity: int


class SeenRequests:
    """A Bloom filter that grows: 2 MB a million keys, one false alarm in about 400.

    Until `complete` is set every key may have been seen: the ids of earlier runs are still being read.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._layers = [_new_layer(capacity)]
        self._in_last = 0
        self.complete = False

    def add(self, owner: str, request_id: str) -> None:
        if self._in_last >= self._layers[-1].capacity:
            self._layers.append(_new_layer(self._layers[-1].capacity * 2))
            self._in_last = 0
        self._in_last += 1
        bits = self._layers[-1].bits
        first, second = _hash(owner, request_id)
        size = len(bits) * 8
        for i in range(_HASHES):
            position = (first + i * second) % size
            bits[position >> 3] |= 1 << (position & 7)

    def may_contain(self, owner: str, request_id: str) -> bool:
        if not self.complete:
            return True
        first, second = _hash(owner, request_id)
        return any(_is_set(layer.bits, first, second) for layer in self._layers)


def _new_layer(capacity: int) -> _Layer:
    return _Layer(bytearray(capacity * _BITS_A_KEY // 8 + 1), capacity)


def _is_set(bits: bytearray, first: int, second: int) -> bool:
    size = len(bits) * 8
    for i in range(_HASHES):
        position = (first + i * second) % size
        if not bits[position >> 3] & (1 << (position & 7)):
            return False
    return True


def _hash(owner: str, request_id: str) -> tuple[int, int]:
    digest = hashlib.blake2b(f"{owner}\0{request_id}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little") | 1
