"""Who calls: the credential of a call becomes a principal, remembered for the rest of the call."""

from contextvars import ContextVar
from typing import Any

import grpc.aio

from sandboxd.accounts.authentication import Authentication
from sandboxd.accounts.principals import Principal

_caller: ContextVar[Principal] = ContextVar("caller")


def current_caller() -> Principal:
    """Who calls."""
    return _caller.get()


class CallAuthenticator:
    """Reads token or client certificate of a call; raises what `Authentication` raises."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication

    def authenticate(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        """Remembers the caller, or raises `Unauthenticated` or `TooManyAttempts`."""
        principal = self._authentication.authenticate(
            _authorization(context),
            address=_address(context.peer()),
            certificate={key: list(values) for key, values in context.auth_context().items()},
        )
        _caller.set(principal)


def _authorization(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""


def _address(peer: str) -> str:
    """The address without its port: `ipv4:127.0.0.1:40312` is `ipv4:127.0.0.1`."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
