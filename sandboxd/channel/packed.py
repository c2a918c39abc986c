"""Long columns of a result as buffers, which the host passes on unread and numpy takes as they are.

Buffers are of this machine's byte order: both ends run on it.
"""

from typing import Literal, TypeAlias

import msgspec

from sandboxd.channel.values import Column

NumberKind: TypeAlias = Literal["int64", "float64", "bool", "timestamp", "timestamptz"]


class _Packed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of the packed columns: a tagged array, as all columns are."""


class NumbersColumn(_Packed, frozen=True, tag="numbers"):
    """Numbers of one kind; times are microseconds since 1970, in UTC where they have a zone."""

    kind: NumberKind
    data: bytes
    """8 bytes a cell; 1 for truth values."""
    nulls: bytes
    """Positions without a value, 4 bytes each, ascending; their cells hold zero."""


class CodedTextColumn(_Packed, frozen=True, tag="codedtexts"):
    """Strings that repeat: each once, and which of them a cell holds."""

    texts: list[str]
    codes: bytes
    """Index into `texts`, 4 bytes a cell; -1 without a value."""


ResultCells: TypeAlias = Column | NumbersColumn | CodedTextColumn
"""One column of a query's result."""
