"""What each user may hold and use, checked before anything is allocated."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple

from sandboxd.errors import QuotaExceeded
from sandboxd.limits import GIB

_MINUTE = 60.0
_FORGET_BEYOND = 1024


class UserKey(NamedTuple):
    """Whom a quota is counted for: a user of an owner. Two owners' users of one name are two users."""

    owner: str
    user_id: str


class Resource(StrEnum):
    """What is held for a while and given back."""

    SANDBOXES = "sandboxes"
    PARALLEL_EXECUTIONS = "parallel_executions"
    QUEUED_EXECUTIONS = "queued_executions"
    DEBUG_STREAMS = "debug_streams"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The share of one user."""

    sandboxes: int = 200
    parallel_executions: int = 64
    queued_executions: int = 500
    debug_streams: int = 16
    cpu_seconds_per_minute: float = 120.0
    """Two cores' worth, on average; a minute's worth may be used at once."""
    stored_bytes: int = 1 * GIB
    """Of history; new executions are refused above it until old ones are deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a quota does not let something through, and when it may."""

    resource: str
    limit: int
    used: int
    retry_after_seconds: float

    def error(self) -> QuotaExceeded:
        return QuotaExceeded(resource=self.resource, limit=self.limit, retry_after=self.retry_after_seconds)


@dataclass(slots=True)
class _Account:
    held: dict[Resource, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    cpu_time: float = 0.0

    def idle(self) -> bool:
        return not self.cpu_seconds and not any(self.held.values())


class Lease(AbstractContextManager["Lease"]):
    """Something held; given back once, by `release` or at the end of the block."""

    def __init__(self, ledger: "QuotaLedger", user: UserKey, resource: Resource) -> None:
        self._ledger: QuotaLedger | None = ledger
        self._user = user
        self._resource = resource

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.give_back(self._user, self._resource)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class QuotaLedger:
    """Counts by user. One event loop, no locks: no method waits. Time is monotonic."""

    def __init__(
        self,
        *,
        default: Quotas | None = None,
        of_users: Mapping[UserKey, Quotas] | None = None,
        stored_bytes: Callable[[UserKey], int] = lambda _user: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._default = default or Quotas()
        self._of_users = dict(of_users or {})
        self._stored_bytes = stored_bytes
        self._clock = clock
        self._accounts: dict[UserKey, _Account] = {}

    def quotas(self, user: UserKey) -> Quotas:
        """The share of `user`."""
        return self._of_users.get(user, self._default)

    def used(self, user: UserKey, resource: Resource) -> int:
        """How much of `resource` the user holds."""
        account = self._accounts.get(user)
        return account.held.get(resource, 0) if account else 0

    def try_acquire(self, user: UserKey, resource: Resource) -> Lease | Refusal:
        """Hold one more of `resource`, or say why not."""
        limit = int(getattr(self.quotas(user), resource.value))
        held = self.used(user, resource)
        if held >= limit:
            return Refusal(resource=resource.value, limit=limit, used=held, retry_after_seconds=1.0)
        self._account(user).held[resource] = held + 1
        return Lease(self, user, resource)

    def acquire(self, user: UserKey, resource: Resource) -> Lease:
        """As `try_acquire`; raises QuotaExceeded."""
        found = self.try_acquire(user, resource)
        if isinstance(found, Refusal):
            raise found.error()
        return found

    def refuse_execution(self, user: UserKey) -> Refusal | None:
        """Why the user may not start another execution: CPU time or storage used up; None when it may."""
        quotas = self.quotas(user)
        cpu = self._cpu_seconds(user)
        if cpu >= quotas.cpu_seconds_per_minute:
            a_second = quotas.cpu_seconds_per_minute / _MINUTE
            wait = (cpu - quotas.cpu_seconds_per_minute) / a_second if a_second else _MINUTE
            return Refusal(
                resource="cpu_seconds_per_minute",
                limit=int(quotas.cpu_seconds_per_minute),
                used=int(cpu),
                retry_after_seconds=round(max(0.1, wait), 1),
            )
        stored = self._stored_bytes(user)
        if stored >= quotas.stored_bytes:
            return Refusal(
                resource="stored_bytes", limit=quotas.stored_bytes, used=stored, retry_after_seconds=_MINUTE
            )
        return None

    def charge_cpu(self, user: UserKey, seconds: float) -> None:
        """Count CPU time an execution has used; it drains at the rate of the quota."""
        used = self._cpu_seconds(user)
        account = self._account(user)
        account.cpu_seconds, account.cpu_time = used + max(0.0, seconds), self._clock()

    def give_back(self, user: UserKey, resource: Resource) -> None:
        """Only for `Lease`."""
        account = self._accounts[user]
        account.held[resource] -= 1
        if account.idle():
            del self._accounts[user]

    def _account(self, user: UserKey) -> _Account:
        account = self._accounts.get(user)
        if account is None:
            if len(self._accounts) >= _FORGET_BEYOND:
                self._forget_idle()
            account = self._accounts[user] = _Account()
        return account

    def _cpu_seconds(self, user: UserKey) -> float:
        account = self._accounts.get(user)
        if account is None or not account.cpu_seconds:
            return 0.0
        drained = (self._clock() - account.cpu_time) * self.quotas(user).cpu_seconds_per_minute / _MINUTE
        return max(0.0, account.cpu_seconds - drained)

    def _forget_idle(self) -> None:
        for user, account in list(self._accounts.items()):
            if not self._cpu_seconds(user):
                account.cpu_seconds = 0.0
            if account.idle():
                del self._accounts[user]
