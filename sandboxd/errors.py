"""The error tree of the host: why a call could not be done. A failure of user code is never one of these.

    SandboxdError
    ├── InvalidArgument            a field of the request; names field, problem and what was sent
    ├── NotFound
    │   ├── SandboxNotFound        no such sandbox of this caller
    │   ├── ExecutionNotFound      no such execution of this caller
    │   └── CheckpointNotFound     no such checkpoint, or no longer kept
    ├── WrongState                 the thing exists but can't do this now
    │   ├── SandboxBusy            an execution runs and the caller asked not to queue
    │   ├── SandboxDeleted         it was deleted or expired while the call waited
    │   ├── RequestIdReused        the same request id came with another request
    │   ├── NotBranchable          the session can't be copied rightly; says why
    │   └── CopyFailed             copying the session failed; it goes on as it was
    ├── Exhausted                  a bound of the server or of the caller's share; says when to retry
    │   ├── QueueFull
    │   ├── TooManySandboxes
    │   └── QuotaExceeded
    ├── Denied                     the caller may not do this
    │   └── Unauthenticated        no valid token or certificate
    ├── Unavailable                try again: nothing was run
    │   ├── Draining               the server is about to stop
    │   ├── ZygoteUnavailable      guests can't be made just now
    │   └── GuestSetupFailed       a set-up step of a guest failed; no user code ran
    └── NotImplementedYet          the contract has it, this server does not

Fields hold what varies; the text is made once, in `__str__`. `rpc/status.py` gives each class its code.
"""

from dataclasses import dataclass, fields
from typing import ClassVar


@dataclass(kw_only=True, eq=False)
class SandboxdError(Exception):
    """Root of the tree. `reason` is the machine-readable name that clients rebuild the class from."""

    reason: ClassVar[str] = "INTERNAL"

    @property
    def metadata(self) -> dict[str, str]:
        """Every field as text: what goes beside the reason on the wire."""
        return {field.name: str(getattr(self, field.name)) for field in fields(self)}

    @property
    def retry_after_seconds(self) -> float | None:
        """When trying again may help; None when it would not."""
        return None


@dataclass(kw_only=True, eq=False)
class InvalidArgument(SandboxdError):
    """A field of the request is not acceptable."""

    reason: ClassVar[str] = "INVALID_ARGUMENT"
    field: str
    """Path of the field in the request, e.g. `limits.memory_bytes`."""
    problem: str
    """What is wrong and what would be right, with the range."""

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


@dataclass(kw_only=True, eq=False)
class NotFound(SandboxdError):
    """There is no such thing for this caller; a foreign one looks the same."""

    reason: ClassVar[str] = "NOT_FOUND"
    kind: ClassVar[str] = "resource"
    id: str

    def __str__(self) -> str:
        return f"no {self.kind} {self.id!r}: it never existed, was deleted or has expired"


@dataclass(kw_only=True, eq=False)
class SandboxNotFound(NotFound):
    """No such sandbox of this caller."""

    reason: ClassVar[str] = "SANDBOX_NOT_FOUND"
    kind: ClassVar[str] = "sandbox"


@dataclass(kw_only=True, eq=False)
class ExecutionNotFound(NotFound):
    """No such execution of this caller."""

    reason: ClassVar[str] = "EXECUTION_NOT_FOUND"
    kind: ClassVar[str] = "execution"


@dataclass(kw_only=True, eq=False)
class CheckpointNotFound(NotFound):
    """No such checkpoint of the sandbox, or it is no longer kept."""

    reason: ClassVar[str] = "CHECKPOINT_NOT_FOUND"
    kind: ClassVar[str] = "checkpoint"


@dataclass(kw_only=True, eq=False)
class WrongState(SandboxdError):
    """The thing exists but is not in a state that allows the call."""

    reason: ClassVar[str] = "WRONG_STATE"
    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(kw_only=True, eq=False)
class SandboxBusy(WrongState):
    """An execution runs and the caller asked to be refused instead of queued."""

    reason: ClassVar[str] = "SANDBOX_BUSY"
    problem: str = "an execution is running in this sandbox; wait for it, cancel it, or queue this one"


@dataclass(kw_only=True, eq=False)
class SandboxDeleted(WrongState):
    """The sandbox went away while the call waited."""

    reason: ClassVar[str] = "SANDBOX_DELETED"
    problem: str = "the sandbox was deleted or expired while the call waited; nothing was run"


@dataclass(kw_only=True, eq=False)
class RequestIdReused(WrongState):
    """A request id belongs to one request for ever."""

    reason: ClassVar[str] = "REQUEST_ID_REUSED"
    problem: str = "this request_id was used for another request; use a new one for each request"


@dataclass(kw_only=True, eq=False)
class NotBranchable(WrongState):
    """The session can't be copied so that both copies would be right."""

    reason: ClassVar[str] = "NOT_BRANCHABLE"


@dataclass(kw_only=True, eq=False)
class CopyFailed(WrongState):
    """The session could not be copied; says why. Nothing of the copy is left."""

    reason: ClassVar[str] = "COPY_FAILED"
    too_large: bool = False
    """For a lack of memory, or because there are too many files."""


@dataclass(kw_only=True, eq=False)
class Exhausted(SandboxdError):
    """A bound was reached before anything was allocated."""

    reason: ClassVar[str] = "EXHAUSTED"
    resource: str
    limit: int
    retry_after: float = 1.0
    """Seconds after which trying again may help."""

    @property
    def retry_after_seconds(self) -> float | None:
        return self.retry_after

    def __str__(self) -> str:
        return f"{self.resource}: the limit of {self.limit} is reached; try again in {self.retry_after:g} s"


@dataclass(kw_only=True, eq=False)
class QueueFull(Exhausted):
    """Too many executions wait."""

    reason: ClassVar[str] = "QUEUE_FULL"


@dataclass(kw_only=True, eq=False)
class TooManySandboxes(Exhausted):
    """The server holds as many sandboxes as it may."""

    reason: ClassVar[str] = "TOO_MANY_SANDBOXES"


@dataclass(kw_only=True, eq=False)
class QuotaExceeded(Exhausted):
    """The caller's own share is used up."""

    reason: ClassVar[str] = "QUOTA_EXCEEDED"


@dataclass(kw_only=True, eq=False)
class Denied(SandboxdError):
    """The caller may not do this."""

    reason: ClassVar[str] = "DENIED"
    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(kw_only=True, eq=False)
class Unauthenticated(Denied):
    """No valid credential came with the call."""

    reason: ClassVar[str] = "UNAUTHENTICATED"


@dataclass(kw_only=True, eq=False)
class Unavailable(SandboxdError):
    """Nothing was run; the same call may succeed a moment later."""

    reason: ClassVar[str] = "UNAVAILABLE"
    problem: str
    retry_after: float = 1.0

    @property
    def retry_after_seconds(self) -> float | None:
        return self.retry_after

    def __str__(self) -> str:
        return self.problem


@dataclass(kw_only=True, eq=False)
class Draining(Unavailable):
    """The server finishes what runs and then stops."""

    reason: ClassVar[str] = "DRAINING"
    problem: str = "the server is shutting down; nothing was run"
    retry_after: float = 5.0


@dataclass(kw_only=True, eq=False)
class ZygoteUnavailable(Unavailable):
    """The process that makes guests is being replaced."""

    reason: ClassVar[str] = "ZYGOTE_UNAVAILABLE"


@dataclass(kw_only=True, eq=False)
class GuestSetupFailed(Unavailable):
    """A set-up step of a guest failed: it was ended before any user code.

    `problem` may name a path of the host: it is for the log, not for the caller.
    """

    reason: ClassVar[str] = "GUEST_SETUP_FAILED"
    step: str

    def __str__(self) -> str:
        return f"isolation step {self.step!r} failed; no user code ran; the server's log says why"

    @property
    def metadata(self) -> dict[str, str]:
        return {**super().metadata, "problem": "the server's log says what went wrong"}


@dataclass(kw_only=True, eq=False)
class NotImplementedYet(SandboxdError):
    """The contract names it, this server does not do it."""

    reason: ClassVar[str] = "NOT_IMPLEMENTED"
    feature: str

    def __str__(self) -> str:
        return f"{self.feature} is part of the contract but not of this server version"
