"""Client of sandboxd: run untrusted Python in sessions that cannot be broken.

    async with Client.connect() as client:
        async with client.create_sandbox() as sandbox:
            result = await sandbox.execute("1 + 1")

`sandboxd_client.sync` has the same for programs without an event loop.
"""

from sandboxd_client.best_of import Best
from sandboxd_client.client import Client
from sandboxd_client.credentials import Tls
from sandboxd_client.debug_session import CommandRefused, DebugSession
from sandboxd_client.debug_steps import DebugStep
from sandboxd_client.debug_stops import Breakpoint, Stopped
from sandboxd_client.debugging import DebugFinished
from sandboxd_client.errors import (
    CheckpointNotFound,
    CopyFailed,
    DeadlineExceeded,
    Denied,
    Draining,
    ExecutionFailed,
    ExecutionNotFound,
    Exhausted,
    GuestSetupFailed,
    InvalidArgument,
    NotBranchable,
    NotFound,
    NotImplementedYet,
    QueueFull,
    QuotaExceeded,
    RequestIdReused,
    SandboxBusy,
    SandboxDeleted,
    SandboxdError,
    SandboxNotFound,
    TooManyAttempts,
    TooManySandboxes,
    Unauthenticated,
    Unavailable,
    Unreachable,
    WrongState,
    ZygoteUnavailable,
)
from sandboxd_client.events import (
    Dropped,
    Event,
    Finished,
    Inspected,
    Logged,
    Queued,
    Started,
    Stderr,
    Stdout,
)
from sandboxd_client.info import Capabilities, Checkpoint, SandboxInfo, SandboxState, Statistics
from sandboxd_client.options import (
    CheckpointPolicy,
    Csv,
    DatabaseGrant,
    LanguagePolicy,
    Limits,
    QueryLimits,
    WriteGrant,
)
from sandboxd_client.queries import QueryRecord, QueryResult, Schema
from sandboxd_client.query_errors import DatabaseUnavailable, QueryDenied, QueryError, QueryTextError
from sandboxd_client.results import (
    DebugInfo,
    Execution,
    ExecutionError,
    ExecutionResult,
    LimitReceipt,
    LogEntry,
    Output,
    SessionOutcome,
    Usage,
    Variable,
)
from sandboxd_client.sandbox import Sandbox
from sandboxd_client.service import SandboxService
from sandboxd_client.tables import Array, Column, Series, Table
from sandboxd_client.traces import Trace
from sandboxd_client.transport import Retry
from sandboxd_client.value_types import Description, Interval
from sandboxd_client.values import is_cut

__all__ = [
    "Array",
    "Best",
    "Breakpoint",
    "Capabilities",
    "Checkpoint",
    "CheckpointNotFound",
    "CheckpointPolicy",
    "Client",
    "Column",
    "CommandRefused",
    "CopyFailed",
    "Csv",
    "DatabaseGrant",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "DebugFinished",
    "DebugInfo",
    "DebugSession",
    "DebugStep",
    "Denied",
    "Description",
    "Draining",
    "Dropped",
    "Event",
    "Execution",
    "ExecutionError",
    "ExecutionFailed",
    "ExecutionNotFound",
    "ExecutionResult",
    "Exhausted",
    "Finished",
    "GuestSetupFailed",
    "Inspected",
    "Interval",
    "InvalidArgument",
    "LanguagePolicy",
    "LimitReceipt",
    "Limits",
    "LogEntry",
    "Logged",
    "NotBranchable",
    "NotFound",
    "NotImplementedYet",
    "Output",
    "QueryDenied",
    "QueryError",
    "QueryLimits",
    "QueryRecord",
    "QueryResult",
    "QueryTextError",
    "QueueFull",
    "Queued",
    "QuotaExceeded",
    "RequestIdReused",
    "Retry",
    "Sandbox",
    "SandboxBusy",
    "SandboxDeleted",
    "SandboxInfo",
    "SandboxNotFound",
    "SandboxService",
    "SandboxState",
    "SandboxdError",
    "Schema",
    "Series",
    "SessionOutcome",
    "Started",
    "Statistics",
    "Stderr",
    "Stdout",
    "Stopped",
    "Table",
    "Tls",
    "TooManyAttempts",
    "TooManySandboxes",
    "Trace",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Usage",
    "Variable",
    "WriteGrant",
    "WrongState",
    "ZygoteUnavailable",
    "is_cut",
]
