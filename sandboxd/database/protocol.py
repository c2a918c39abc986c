"""What the host and a database worker say to each other, in length-prefixed frames over a socket pair.

The worker parses hostile text, so the host decodes what it says strictly and bounds every frame.
"""

import socket
import struct
from typing import Literal, TypeAlias

import msgspec

from sandboxd.channel.query import ResultColumn
from sandboxd.channel.values import Value
from sandboxd.database.grants import WriteGrant
from sandboxd.database.schema import Table

HEADER = struct.Struct(">I")
MAX_REQUEST_BYTES = 64 * 1024 * 1024
MAX_REPLY_BYTES = 320 * 1024 * 1024
"""The largest result a grant may allow, and room for its encoding."""

Engine: TypeAlias = Literal["sqlite", "postgresql"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every message: a tagged map without unknown fields."""


# --- host to worker ----------------------------------------------------------------------------


class DatabaseSpec(_Message, frozen=True, kw_only=True):
    """A database a worker may open. The URL crosses this socket only, never argv or environment."""

    name: str
    engine: Engine
    url: str
    schemas: list[str] = []
    """PostgreSQL's search path, the default schema first; empty means `public`."""
    tables: list[str] | None = None
    """The only tables that are shown; None shows all the role may read."""
    functions: list[str] = []
    """Functions the operator allows beside those known to be harmless."""
    allow_unsafe_role: bool = False
    """Opens as a superuser all the same; only tests and the control run of an attack ask for it."""


class OpenDatabases(_Message, frozen=True, kw_only=True, tag="open"):
    """The first message: what may be opened, and the layers in force."""

    databases: list[DatabaseSpec]
    guard: bool = True
    """False runs without the guard; only the control run of an attack asks for it."""
    memory_bytes: int = 0
    """RLIMIT_AS above what the worker uses when it is ready; 0 sets none."""


class RunStatement(_Message, frozen=True, kw_only=True, tag="run"):
    """Run one statement."""

    request_id: int
    database: str
    sql: str
    max_rows: int
    max_bytes: int
    timeout_ms: int
    chunk_bytes: int
    """Size after which rows are sent; 0 sends all rows in one chunk."""
    named: list[tuple[str, Value]] = []
    positional: list[Value] = []
    tables: list[str] = []
    """The only tables of this sandbox; empty means all that are shown."""
    writes: list[WriteGrant] = []
    max_affected_rows: int = 0


class ReadSchema(_Message, frozen=True, kw_only=True, tag="schema"):
    """Describe every table that is shown."""

    request_id: int
    database: str


class CheckDatabase(_Message, frozen=True, kw_only=True, tag="check"):
    """Open the database and say what is wrong with its role, if anything."""

    request_id: int
    database: str


class Decide(_Message, frozen=True, kw_only=True, tag="decide"):
    """The answer to `CommitPending`."""

    request_id: int
    commit: bool


class Cancel(_Message, frozen=True, kw_only=True, tag="cancel"):
    """End the running statement."""

    request_id: int


HostRequest: TypeAlias = OpenDatabases | RunStatement | ReadSchema | CheckDatabase | Decide | Cancel

# --- worker to host ----------------------------------------------------------------------------


class WorkerReady(_Message, frozen=True, kw_only=True, tag="ready"):
    """Imports are done; statements may come."""

    pid: int


class Judged(_Message, frozen=True, kw_only=True, tag="judged"):
    """The statement passed every layer before the engine."""

    request_id: int
    kind: str
    tables: list[str]
    functions: list[str]
    written_table: str
    written_columns: list[str]
    fingerprint: str
    final_sql: str
    """What the engine gets when the bridge changed the text; empty otherwise."""
    parse_us: int


class ResultHeader(_Message, frozen=True, kw_only=True, tag="header"):
    """The columns; sent once, before any row."""

    request_id: int
    columns: list[ResultColumn]


class ResultChunk(_Message, frozen=True, kw_only=True, tag="chunk"):
    """Rows, column by column: msgpack of `list[sandboxd.channel.packed.ResultCells]`, with packed columns
    only where all rows are sent in one chunk."""

    request_id: int
    rows: int
    data: msgspec.Raw


class CommitPending(_Message, frozen=True, kw_only=True, tag="commit_pending"):
    """A granted write has run within its cap and waits for `Decide`."""

    request_id: int
    affected: int


class StatementDone(_Message, frozen=True, kw_only=True, tag="done"):
    """The end of a statement that ran."""

    request_id: int
    rows: int
    size_bytes: int
    truncated_by: Literal["", "rows", "bytes"] = ""
    affected: int = 0
    warnings: list[str] = []
    engine_us: int = 0


class StatementRefused(_Message, frozen=True, kw_only=True, tag="refused"):
    """The end of a statement, schema reading or check that did not succeed."""

    request_id: int
    reason: str
    layer: str
    problem: str
    hint: str = ""
    detail: dict[str, str] = {}
    fingerprint: str = ""
    parse_us: int = 0
    engine_us: int = 0


class SchemaRead(_Message, frozen=True, kw_only=True, tag="schema_read"):
    """The answer to `ReadSchema`."""

    request_id: int
    tables: list[Table]


class DatabaseChecked(_Message, frozen=True, kw_only=True, tag="checked"):
    """The answer to `CheckDatabase`: the database opens and its role is one to use."""

    request_id: int
    server_version: str
    warnings: list[str] = []
    """What the hardening script would still improve."""


WorkerReply: TypeAlias = (
    WorkerReady
    | Judged
    | ResultHeader
    | ResultChunk
    | CommitPending
    | StatementDone
    | StatementRefused
    | SchemaRead
    | DatabaseChecked
)

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[HostRequest] = msgspec.msgpack.Decoder(HostRequest)
_reply_decoder: msgspec.msgpack.Decoder[WorkerReply] = msgspec.msgpack.Decoder(WorkerReply)


def encode(message: HostRequest | WorkerReply) -> bytes:
    """One message as a frame."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


def decode_reply(body: bytes | bytearray) -> WorkerReply:
    """A worker's message, its rows a view of `body`; raises `msgspec.MsgspecError` on anything else."""
    return _reply_decoder.decode(body)


def receive_request(sock: socket.socket) -> HostRequest | None:
    """Blocks for the host's next message; None when the host is gone."""
    header = _receive(sock, HEADER.size)
    if header is None:
        return None
    body = _receive(sock, HEADER.unpack(header)[0])
    return None if body is None else _request_decoder.decode(body)


def _receive(sock: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        more = sock.recv(min(count - len(data), 1 << 20))
        if not more:
            return None
        data += more
    return bytes(data)
