"""The error tree of the client: why a call could not be done, rebuilt from what the server sent.

    SandboxdError
    ├── InvalidArgument            a field of the request; names field, problem and what would be right
    ├── NotFound
    │   ├── SandboxNotFound
    │   ├── ExecutionNotFound
    │   └── CheckpointNotFound
    ├── WrongState                 the thing exists but can't do this now
    │   ├── SandboxBusy
    │   ├── SandboxDeleted
    │   ├── RequestIdReused
    │   ├── NotBranchable
    │   └── CopyFailed
    ├── Exhausted                  a bound of the server or of your share; see `retry_after`
    │   ├── QueueFull
    │   ├── TooManySandboxes
    │   ├── TooManyAttempts
    │   └── QuotaExceeded
    ├── Denied
    │   └── Unauthenticated
    ├── Unavailable                try again
    │   ├── Draining
    │   ├── ZygoteUnavailable
    │   ├── GuestSetupFailed
    │   └── Unreachable            client side: no answer from the address
    ├── NotImplementedYet
    ├── DeadlineExceeded           client side: the call's own deadline ran out
    └── ExecutionFailed            client side: `raise_for_status()` on a result that is not completed

A failure of user code is not an error of a call: it is the `status` and `error` of an `ExecutionResult`.
Classes are the server's own; an error with a `reason` this client does not know becomes the class of its
code, `reason` and `metadata` kept. Errors of queries are in `query_errors`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sandboxd_client.results import ExecutionResult


class SandboxdError(Exception):
    """Root of the tree. `str()` is the server's own text."""

    reason: str = "INTERNAL"
    """Machine-readable name of the kind of error."""

    def __init__(
        self, message: str, *, metadata: Mapping[str, str] | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})
        """What varies in the text, by name."""
        self.retry_after = retry_after
        """Seconds after which trying again may help; None when it would not."""


class InvalidArgument(SandboxdError):
    """A field of the request is not acceptable; do not retry it as it is."""

    reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        violations: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, metadata=metadata, retry_after=retry_after)
        self.violations: dict[str, str] = dict(violations or {})
        """What is wrong, by path of the field."""
        if not self.violations and "field" in self.metadata:
            self.violations[self.metadata["field"]] = self.metadata.get("problem", message)

    @property
    def field(self) -> str:
        """Path of the first field that is wrong, such as `spec.limits.memory_bytes`, or empty."""
        return next(iter(self.violations), "")

    @property
    def problem(self) -> str:
        """What is wrong with `field` and what would be right."""
        return self.violations.get(self.field, self.message)


class NotFound(SandboxdError):
    """There is no such thing for this caller; a foreign one looks the same."""

    reason = "NOT_FOUND"
    kind: ClassVar[str] = "resource"

    @property
    def id(self) -> str:
        """The id that was not found; empty when the server did not repeat it."""
        return self.metadata.get("id", "")


class SandboxNotFound(NotFound):
    """No such sandbox; create one."""

    reason = "SANDBOX_NOT_FOUND"
    kind = "sandbox"


class ExecutionNotFound(NotFound):
    """No such execution, or its history is gone."""

    reason = "EXECUTION_NOT_FOUND"
    kind = "execution"


class CheckpointNotFound(NotFound):
    """No such checkpoint, or it is no longer kept."""

    reason = "CHECKPOINT_NOT_FOUND"
    kind = "checkpoint"


class WrongState(SandboxdError):
    """The thing exists but is not in a state that allows the call; nothing was run."""

    reason = "WRONG_STATE"


class SandboxBusy(WrongState):
    """An execution runs and the call asked to be refused instead of queued."""

    reason = "SANDBOX_BUSY"


class SandboxDeleted(WrongState):
    """The sandbox went away while the call waited."""

    reason = "SANDBOX_DELETED"


class RequestIdReused(WrongState):
    """A request id belongs to one request for ever."""

    reason = "REQUEST_ID_REUSED"


class NotBranchable(WrongState):
    """The session can't be copied so that both copies would be right."""

    reason = "NOT_BRANCHABLE"


class CopyFailed(WrongState):
    """The session could not be copied; nothing of the copy is left."""

    reason = "COPY_FAILED"


class Exhausted(SandboxdError):
    """A bound was reached before anything was allocated; nothing was run."""

    reason = "EXHAUSTED"

    @property
    def resource(self) -> str:
        """What is used up."""
        return self.metadata.get("resource", "")

    @property
    def limit(self) -> int:
        """How much of it there is; 0 when the server did not say."""
        text = self.metadata.get("limit", "")
        return int(text) if text.isdecimal() else 0


class QueueFull(Exhausted):
    """Too many executions wait."""

    reason = "QUEUE_FULL"


class TooManySandboxes(Exhausted):
    """The server holds as many sandboxes as it may."""

    reason = "TOO_MANY_SANDBOXES"


class QuotaExceeded(Exhausted):
    """Your own share is used up."""

    reason = "QUOTA_EXCEEDED"


class TooManyAttempts(Exhausted):
    """Too many bad credentials came from this address; a good one is accepted all the same."""

    reason = "TOO_MANY_ATTEMPTS"


class Denied(SandboxdError):
    """The caller may not do this; do not retry."""

    reason = "DENIED"


class Unauthenticated(Denied):
    """No valid credential came with the call."""

    reason = "UNAUTHENTICATED"


class Unavailable(SandboxdError):
    """The same call may succeed a moment later; the client has already retried as its policy says."""

    reason = "UNAVAILABLE"


class Draining(Unavailable):
    """The server finishes what runs and then stops; nothing was run."""

    reason = "DRAINING"


class ZygoteUnavailable(Unavailable):
    """The process that makes guests is being replaced; nothing was run."""

    reason = "ZYGOTE_UNAVAILABLE"


class GuestSetupFailed(Unavailable):
    """A set-up step of a guest failed: it was ended before any user code."""

    reason = "GUEST_SETUP_FAILED"

    @property
    def step(self) -> str:
        """The step that failed."""
        return self.metadata.get("step", "")


class Unreachable(Unavailable):
    """No answer from the address. A request may have arrived; its request id makes asking again safe."""

    reason = "UNREACHABLE"


class NotImplementedYet(SandboxdError):
    """The contract names it, this server does not do it."""

    reason = "NOT_IMPLEMENTED"

    @property
    def feature(self) -> str:
        """What is missing."""
        return self.metadata.get("feature", "")


class DeadlineExceeded(SandboxdError):
    """The call's own deadline ran out. What became of the execution is in the history."""

    reason = "DEADLINE_EXCEEDED"


class ExecutionFailed(SandboxdError):
    """Raised by `ExecutionResult.raise_for_status()` only: user code did not complete."""

    reason = "EXECUTION_FAILED"

    def __init__(self, result: "ExecutionResult") -> None:
        super().__init__(f"execution {result.execution_id} {result.status}: {result.error}")
        self.result = result
