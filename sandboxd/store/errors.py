"""Why the store could not do a thing; part of the error tree of `sandboxd.errors`.

SandboxdError
├── Exhausted
│   └── StoreFull            the disk, or the share of it the journal may use, is full
├── Unavailable
│   ├── StoreUnavailable     the database or the journal can't be written or read just now
│   └── StoreInUse           another server holds this store
└── InvalidArgument
    └── InvalidPageToken     not a token this store made for this caller and this filter
"""

from dataclasses import dataclass
from typing import ClassVar

from sandboxd.errors import Exhausted, InvalidArgument, Unavailable


@dataclass(kw_only=True, eq=False)
class StoreFull(Exhausted):
    """Nothing more can be recorded until space is free; no restart is needed then."""

    reason: ClassVar[str] = "STORE_FULL"
    resource: str = "history storage (bytes)"
    limit: int = 0

    def __str__(self) -> str:
        return f"{self.resource}: no space is left to record this; try again in {self.retry_after:g} s"


@dataclass(kw_only=True, eq=False)
class StoreUnavailable(Unavailable):
    """The history can't be read or written just now."""

    reason: ClassVar[str] = "STORE_UNAVAILABLE"


@dataclass(kw_only=True, eq=False)
class StoreInUse(Unavailable):
    """One server owns a store; a second one would record the first one's executions as aborted."""

    reason: ClassVar[str] = "STORE_IN_USE"
    problem: str = "another server uses this store; give each server its own data directory and database"


@dataclass(kw_only=True, eq=False)
class InvalidPageToken(InvalidArgument):
    """The page token was not made by this store for this caller and filter."""

    reason: ClassVar[str] = "INVALID_PAGE_TOKEN"
    field: str = "page_token"
    problem: str = "send the next_page_token of the previous page, with the same filter, or none"
