"""What a sandbox is: its specification, and what became of its session after an execution."""

import enum
from dataclasses import dataclass, field

from sandboxd.limits import Limits
from sandboxd.policy import LanguagePolicy


class SandboxState(enum.Enum):
    """Whether a sandbox can be used; all but ACTIVE are final."""

    ACTIVE = "ACTIVE"
    DELETED = "DELETED"
    EXPIRED = "EXPIRED"
    ABORTED = "ABORTED"


class CheckpointMode(enum.Enum):
    """Whether states are kept to go back to."""

    AUTOMATIC = "AUTOMATIC"
    DISABLED = "DISABLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPolicy:
    """Which earlier states of a session are kept."""

    mode: CheckpointMode = CheckpointMode.AUTOMATIC
    history_count: int = 4
    """Latest states kept for a rewind, beside named ones."""
    memory_bytes: int | None = None
    """Most memory the kept states may take; None is the server's setting."""


class WriteOperation(enum.Enum):
    """A kind of statement that changes data."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteGrant:
    """Permission for one operation on one table, and for which columns."""

    table: str
    operation: WriteOperation
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseGrant:
    """What a sandbox may do with one configured database; None leaves a bound at its default."""

    database: str
    is_default: bool = False
    tables: tuple[str, ...] = ()
    """Readable tables; empty means all that the database's own settings allow."""
    write_grants: tuple[WriteGrant, ...] = ()
    max_affected_rows: int | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a sandbox is made with; fixed for its life."""

    limits: Limits
    policy: LanguagePolicy = field(default_factory=LanguagePolicy)
    enable_debugging: bool = False
    database_grants: tuple[DatabaseGrant, ...] = ()
    checkpoints: CheckpointPolicy = CheckpointPolicy()


class SessionState(enum.Enum):
    """What became of a session."""

    KEPT = "KEPT"
    RESTORED = "RESTORED"
    LOST = "LOST"
    ENDED = "ENDED"


class SkipReason(enum.Enum):
    """Why the state before an execution was not kept."""

    DISABLED = "DISABLED"
    LIVE_THREADS = "LIVE_THREADS"
    TOO_LARGE = "TOO_LARGE"
    UNSUPPORTED = "UNSUPPORTED"
    SINGLE_USE = "SINGLE_USE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointReport:
    """Whether there is a state to go back to, said beforehand."""

    skipped: SkipReason | None = SkipReason.UNSUPPORTED
    message: str = ""
    checkpoint_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOutcome:
    """What became of the session after an execution."""

    state: SessionState = SessionState.KEPT
    restored_from_execution_id: str = ""
    restored_from_number: int = 0
    reason: str = ""
    checkpoint: CheckpointReport = CheckpointReport()
