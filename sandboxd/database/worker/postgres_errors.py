"""PostgreSQL's error codes as reasons of this service."""

import asyncpg

from sandboxd.database.worker.refusal import Layer, Reason, Refusal

_BY_CODE = {
    "42P01": Reason.UNDEFINED,
    "42703": Reason.UNDEFINED,
    "42883": Reason.UNDEFINED,
    "42704": Reason.UNDEFINED,
    "42P18": Reason.PARAMETER,
    "42501": Reason.OBJECT_DENIED,
    "25006": Reason.STATEMENT_DENIED,
    "25001": Reason.STATEMENT_DENIED,
    "0A000": Reason.STATEMENT_DENIED,
    "55P03": Reason.CONFLICT,
    "57014": Reason.CANCELLED,
    "53400": Reason.LIMIT_TEMP,
    "53200": Reason.LIMIT_BYTES,
}
_BY_CLASS = {
    "42": Reason.SYNTAX,
    "22": Reason.DATA,
    "23": Reason.CONSTRAINT,
    "40": Reason.CONFLICT,
    "54": Reason.TOO_COMPLEX,
    "08": Reason.UNAVAILABLE,
    "53": Reason.UNAVAILABLE,
    "57": Reason.UNAVAILABLE,
}
_WITHOUT_TEXT = {
    Reason.OBJECT_DENIED: "the database's role may not do this",
    Reason.UNAVAILABLE: "the database cannot be reached just now",
    Reason.CANCELLED: "the statement was cancelled",
    Reason.LIMIT_BYTES: "a value or result is larger than memory allows",
}
"""Reasons whose own text could name a role, a host or a table that is hidden."""


CONNECTION_FAULTS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # when the server ended the connection between two calls
    OSError,
    TimeoutError,
)
"""What a call on a connection may raise that is no mistake of this program."""


def refusal_of(error: Exception) -> Refusal:
    """What an error of the driver or the server comes to for the caller."""
    if not isinstance(error, asyncpg.PostgresError):
        reason = (
            Reason.UNAVAILABLE
            if isinstance(
                error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError
            )
            else Reason.DATA
        )
        text = _WITHOUT_TEXT.get(reason, "a value of the result has no Python form; cast it to text")
        return Refusal(reason, Layer.ENGINE, text)
    code = error.sqlstate or ""
    reason = _BY_CODE.get(code) or _BY_CLASS.get(code[:2]) or Reason.DATA
    detail = {"sqlstate": code}
    if position := getattr(error, "position", None):
        detail["position"] = str(position)
    text = _WITHOUT_TEXT.get(reason) or str(error).splitlines()[0][:500]
    hint = str(getattr(error, "hint", None) or "")[:300] if reason not in _WITHOUT_TEXT else ""
    if code == "42P18":
        hint = "write its type, for example :name::text"
    return Refusal(reason, Layer.ENGINE, text, hint=hint, **detail)
