"""Page tokens: opaque, signed, and good only for the caller and the filter they were made for."""

import base64
import binascii
import hashlib
import hmac
from datetime import datetime, timedelta

import msgspec

from sandboxd.store.errors import InvalidPageToken
from sandboxd.store.tables import EPOCH, MICROSECOND

_TAG_BYTES = 16
_MAXIMUM_LENGTH = 512


class Position(msgspec.Struct, frozen=True, array_like=True):
    """The last record of a page: newest first, by time and id."""

    time_us: int
    id: str

    @classmethod
    def of(cls, time: datetime, record_id: str) -> "Position":
        return cls((time - EPOCH) // MICROSECOND, record_id)

    @property
    def time(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.time_us)


class PageTokens:
    """Makes and reads tokens with the store's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, position: Position, *, scope: object) -> str:
        """`scope` is the kind of list, its owner and its filter: anything with a stable repr."""
        payload = msgspec.msgpack.encode(position)
        return base64.urlsafe_b64encode(self._tag(payload, scope) + payload).decode().rstrip("=")

    def read(self, token: str, *, scope: object) -> Position | None:
        """None for the empty token: the first page. Raises InvalidPageToken for any that is not ours."""
        if not token:
            return None
        if len(token) > _MAXIMUM_LENGTH or not token.isascii():
            raise InvalidPageToken
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidPageToken from error
        tag, payload = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(payload, scope)):
            raise InvalidPageToken
        return msgspec.msgpack.decode(payload, type=Position)

    def _tag(self, payload: bytes, scope: object) -> bytes:
        text = repr(scope).encode("utf-8", "backslashreplace")
        return hmac.new(self._key, payload + b"\0" + text, hashlib.sha256).digest()[:_TAG_BYTES]
