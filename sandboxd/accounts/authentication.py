"""From what came with a call to a principal, or a refusal; bounded whatever is sent."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sandboxd.accounts.certificates import SubjectTable
from sandboxd.accounts.principals import Principal
from sandboxd.accounts.tokens import TokenBook
from sandboxd.errors import Exhausted, Unauthenticated

_SCHEME = "bearer "


@dataclass(kw_only=True, eq=False)
class TooManyAttempts(Exhausted):
    """Too many bad credentials came from this address; a good one is accepted all the same."""

    reason: ClassVar[str] = "TOO_MANY_ATTEMPTS"
    resource: str = "failed authentications"
    limit: int = 0


class FailureLimit:
    """Counts bad credentials by address, in a table of fixed size; each may have some at once, then a few.

    An address that is pushed out of the table starts anew: guessing 256 bits is hopeless at any rate, so
    the limit is there for the log and the processor, not for the secret.
    """

    def __init__(
        self,
        *,
        burst: int = 20,
        a_second: float = 1.0,
        addresses: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst = burst
        self._a_second = a_second
        self._addresses = addresses
        self._clock = clock
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, address: str) -> float | None:
        """Count a failure. Seconds until the next is free where there were too many, else None."""
        now = self._clock()
        spent, since = self._spent.pop(address, (0.0, now))
        spent = max(0.0, spent - (now - since) * self._a_second)
        over = spent + 1 > self._burst
        self._spent[address] = (spent if over else spent + 1, now)
        if len(self._spent) > self._addresses:
            self._spent.popitem(last=False)
        return (spent + 1 - self._burst) / self._a_second if over else None


class Authentication:
    """Tokens first, then a mapped client certificate. Health is the only method that needs neither."""

    def __init__(
        self, *, tokens: TokenBook, subjects: SubjectTable | None = None, failures: FailureLimit | None = None
    ) -> None:
        self._tokens = tokens
        self._subjects = subjects or SubjectTable()
        self._failures = failures or FailureLimit()

    def authenticate(
        self,
        authorization: str,
        *,
        address: str = "",
        certificate: Mapping[str, Sequence[bytes]] | None = None,
    ) -> Principal:
        """The principal behind a call.

        `authorization` is the metadata entry of that name, empty for none; `address` the peer without its
        port; `certificate` gRPC's auth context. Raises Unauthenticated, or TooManyAttempts for an address
        with too many failures: only failures are limited, so nobody can lock another out.
        """
        principal = self._find(authorization, certificate)
        if principal is not None:
            return principal
        wait = self._failures.failed(address)
        if wait is not None:
            raise TooManyAttempts(retry_after=round(wait, 1))
        if not authorization:
            raise Unauthenticated(
                problem="the call carries no token; send the metadata 'authorization: Bearer <token>'"
            )
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated(problem="the metadata 'authorization' is not of the form 'Bearer <token>'")
        raise Unauthenticated(problem="the token is not valid: unknown, revoked or expired")

    def _find(
        self, authorization: str, certificate: Mapping[str, Sequence[bytes]] | None
    ) -> Principal | None:
        if authorization[: len(_SCHEME)].lower() == _SCHEME:
            return self._tokens.find(authorization[len(_SCHEME) :].strip())
        if not authorization and certificate:
            return self._subjects.find(certificate)
        return None
