"""Ids that tie a call to what is logged of it: a request id and the caller's W3C trace context."""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

REQUEST_ID_KEY = "x-request-id"
TRACEPARENT_KEY = "traceparent"

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}", re.ASCII)
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-[!-~]{1,64})?")
"""Source: W3C Trace Context, section 3.2; later versions may add fields, 00 has none."""
_LONGEST_VALUE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CallIds:
    """The ids of one call; both are safe to log and to send back as they are."""

    request_id: str
    """The caller's, or one made here."""
    traceparent: str
    """The caller's; empty where none came or it was malformed."""
    given: tuple[tuple[str, str], ...]
    """What the caller sent and we took: goes back in the initial metadata."""

    def bind(self) -> None:
        """Every log line of this call and of what it starts carries the ids from now on."""
        if self.traceparent:
            _, trace_id, parent_id, *_ = self.traceparent.split("-")
            structlog.contextvars.bind_contextvars(
                request_id=self.request_id, trace_id=trace_id, parent_id=parent_id
            )
        else:
            structlog.contextvars.bind_contextvars(request_id=self.request_id)


def call_ids(metadata: Iterable[tuple[str, str | bytes]]) -> CallIds:
    """The ids in a call's metadata. One that is malformed counts as none: ids are no reason to refuse."""
    request_id = traceparent = ""
    for key, value in metadata:
        if key == REQUEST_ID_KEY and not request_id:
            request_id = _matching(_REQUEST_ID, value)
        elif key == TRACEPARENT_KEY and not traceparent:
            traceparent = _valid_traceparent(value)
    given = []
    if request_id:
        given.append((REQUEST_ID_KEY, request_id))
    if traceparent:
        given.append((TRACEPARENT_KEY, traceparent))
    return CallIds(request_id=request_id or secrets.token_hex(8), traceparent=traceparent, given=tuple(given))


def _matching(pattern: re.Pattern[str], value: str | bytes) -> str:
    fits = isinstance(value, str) and len(value) <= _LONGEST_VALUE and pattern.fullmatch(value)
    return str(value) if fits else ""


def _valid_traceparent(value: str | bytes) -> str:
    text = _matching(_TRACEPARENT, value)
    if not text:
        return ""
    version, trace_id, parent_id, *rest = text.split("-", 4)
    if not trace_id.strip("0") or not parent_id.strip("0"):
        return ""
    return "" if version == "00" and len(rest) > 1 else text
