"""Who calls: every method but health needs a bearer token, compared in constant time."""

import hashlib
import hmac
import os
import secrets
import stat
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sandboxd.errors import Denied, Unauthenticated

_TOKEN_BYTES = 32
_SCHEME = "bearer "

Role = Literal["admin", "service", "user"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The principal behind a call."""

    name: str
    role: Role

    def acting_for(self, user_id: str) -> str:
        """The user a call acts for: a user only for itself, a service or admin for anyone."""
        if not user_id or user_id == self.name:
            return self.name
        if self.role == "user":
            raise Denied(problem="only a service or an admin may act for another user_id")
        return user_id


class Authenticator(Protocol):
    """Turns a credential into a caller, or raises `Unauthenticated`."""

    def authenticate(self, authorization: str) -> Caller:
        """`authorization` is the metadata entry of that name; empty when there is none."""


_caller: ContextVar[Caller] = ContextVar("caller")


def set_caller(caller: Caller) -> None:
    """Remembers who calls, for the rest of this call."""
    _caller.set(caller)


def current_caller() -> Caller:
    """Who calls."""
    return _caller.get()


class TokenFile:
    """One token in a file that only its owner may read; made at the first start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256(_read_or_make(path).encode()).digest()

    def authenticate(self, authorization: str) -> Caller:
        if not authorization.lower().startswith(_SCHEME):
            raise Unauthenticated(
                problem="the call carries no token; send the metadata 'authorization: Bearer <token>'"
            )
        digest = hashlib.sha256(authorization[len(_SCHEME) :].strip().encode()).digest()
        if not hmac.compare_digest(digest, self._digest):
            raise Unauthenticated(problem="the token is not valid")
        return Caller(name="local", role="service")


def _read_or_make(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read(path)
    token = f"sbt_{secrets.token_urlsafe(_TOKEN_BYTES)}"
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def _read(path: Path) -> str:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise PermissionError(f"{path} can be read by others; run: chmod 600 {path}")
    token = path.read_text().strip()
    if not token:
        raise ValueError(f"{path} is empty; delete it and a new token is made at the next start")
    return token
