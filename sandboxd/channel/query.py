"""What `Call` and `CallReply` carry for the database functions: the questions and their answers.

`Call.method` is "query" (payload `QueryQuestion`, answer `QueryReply`), "tables" (`TablesQuestion`,
`TablesReply`) or "schema" (`SchemaQuestion`, `SchemaReply`). An error travels in `CallReply.error_reason`,
`error_message` and `error_hint`, with an empty payload.
"""

import struct
from typing import Literal, TypeVar

import msgspec

from sandboxd.channel.framing import EncodedMessage, Piece, frame_of
from sandboxd.channel.packed import ResultCells
from sandboxd.channel.values import Value


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every question and answer: a map without unknown fields."""


# --- guest to host -----------------------------------------------------------------------------


class QueryQuestion(_Record, frozen=True, kw_only=True):
    """One SQL statement. Parameters are named (`:name`) or positional, never both."""

    sql: str
    named: list[tuple[str, Value]] = []
    positional: list[Value] = []
    database: str = ""
    """Empty: the only, or first, database of `Configure.databases`."""
    max_rows: int | None = None
    """Lowers the sandbox's cap for this query; None keeps it."""


class TablesQuestion(_Record, frozen=True, kw_only=True):
    """Which tables may be read?"""

    database: str = ""


class SchemaQuestion(_Record, frozen=True, kw_only=True):
    """What does one table look like?"""

    table: str
    database: str = ""


# --- host to guest -----------------------------------------------------------------------------


class ResultColumn(_Record, frozen=True, kw_only=True):
    """A column of a result: its name as the database gave it, and the database's own type name."""

    name: str
    db_type: str


class QueryReply(_Record, frozen=True, kw_only=True):
    """The rows of a query, column by column: `data[i]` holds the values of `columns[i]`."""

    columns: list[ResultColumn]
    data: list[ResultCells]
    total_rows: int
    """Rows in `data`."""
    truncated: bool = False
    truncated_by: Literal["", "rows", "bytes"] = ""
    affected: int = 0
    """Rows that a granted write changed."""
    warnings: list[str] = []


class TableEntry(_Record, frozen=True, kw_only=True):
    """A table or view that may be read."""

    name: str
    kind: Literal["table", "view"] = "table"
    estimated_rows: int | None = None


class TablesReply(_Record, frozen=True, kw_only=True):
    """All tables that may be read, by name."""

    tables: list[TableEntry]


class SchemaColumn(_Record, frozen=True, kw_only=True):
    """A column of a table."""

    name: str
    db_type: str
    nullable: bool
    primary_key: bool = False
    default: str | None = None
    comment: str = ""


class ForeignKey(_Record, frozen=True, kw_only=True):
    """Columns that refer to columns of another table."""

    columns: list[str]
    target_table: str
    target_columns: list[str]


class Index(_Record, frozen=True, kw_only=True):
    """An index of a table."""

    name: str
    columns: list[str]
    unique: bool


class SchemaReply(_Record, frozen=True, kw_only=True):
    """One table."""

    table: str
    kind: Literal["table", "view"] = "table"
    columns: list[SchemaColumn]
    primary_key: list[str] = []
    foreign_keys: list[ForeignKey] = []
    indexes: list[Index] = []
    estimated_rows: int | None = None
    comment: str = ""


_Shape = TypeVar("_Shape", bound=_Record)

_encoder = msgspec.msgpack.Encoder()
_BIN32 = struct.Struct(">BI")
"""How msgpack begins long bytes."""


def query_reply_frame(call_id: int, reply: QueryReply, data: Piece) -> EncodedMessage:
    """The `CallReply` with `reply` as its payload and `data`, encoded columns, for its empty `data`."""
    fields = msgspec.structs.asdict(reply)
    del fields["data"]
    payload = _unfinished(fields, "data")
    size = len(payload) + len(data)
    outer = _unfinished({"type": "call_reply", "call_id": call_id}, "payload")
    return frame_of(outer + _BIN32.pack(0xC6, size) + payload, data)


def _unfinished(fields: dict[str, object], last: str) -> bytes:
    """A small msgpack map that lacks the value of its last entry."""
    encoded = _encoder.encode(fields)
    return bytes((encoded[0] + 1,)) + encoded[1:] + _encoder.encode(last)


def encode_payload(record: _Record) -> bytes:
    """A question or an answer as the payload of a `Call` or `CallReply`."""
    return _encoder.encode(record)


def decode_payload(payload: bytes, shape: type[_Shape]) -> _Shape:
    """Decodes strictly; anything else raises `msgspec.MsgspecError` (or a subclass of ValueError)."""
    return msgspec.msgpack.decode(payload, type=shape)
