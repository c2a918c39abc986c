"""Answers what user code asks of databases, over the same gateway that gRPC uses."""

import msgspec

from sandboxd.channel import query as channel
from sandboxd.channel.framing import MAX_HOST_FRAME_BYTES, EncodedMessage
from sandboxd.channel.messages import Call, CallReply
from sandboxd.database.errors import DatabaseNotFound, QueryError, ValueBytesLimit
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.granting import grant_for
from sandboxd.database.grants import DatabaseGrant
from sandboxd.database.query import Asker, QueryEnded, QueryRequest, QueryRows, QueryStarted
from sandboxd.database.schema import Table
from sandboxd.errors import SandboxdError
from sandboxd.sandboxes.sandbox import Sandbox

_MAX_REPLY_BYTES = MAX_HOST_FRAME_BYTES - 64 * 1024
_NO_ROWS = msgspec.Raw(msgspec.msgpack.encode([]))


class GuestCalls:
    """The calls of one execution."""

    def __init__(self, gateway: DatabaseGateway, *, sandbox: Sandbox, execution_id: str) -> None:
        self._gateway = gateway
        self._sandbox = sandbox
        self._execution_id = execution_id

    async def __call__(self, call: Call) -> CallReply | EncodedMessage:
        """The answer; an error of the tree becomes one that the guest raises."""
        try:
            return await self._answer(call)
        except QueryError as error:
            return _failed(call, error.reason, error.problem, error.hint)
        except SandboxdError as error:
            return _failed(call, error.reason, str(error))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return _failed(call, "INVALID_ARGUMENT", "the question is not one this server knows")

    async def _answer(self, call: Call) -> CallReply | EncodedMessage:
        match call.method:
            case "query":
                return await self._query(call, channel.decode_payload(call.payload, channel.QueryQuestion))
            case "tables":
                asked = channel.decode_payload(call.payload, channel.TablesQuestion)
                return CallReply(call_id=call.call_id, payload=await self._tables(asked))
            case "schema":
                described = channel.decode_payload(call.payload, channel.SchemaQuestion)
                return CallReply(call_id=call.call_id, payload=await self._schema(described))
        raise ValueError(call.method)

    def _grant(self, database: str) -> DatabaseGrant:
        return grant_for(database, self._sandbox.spec.database_grants, self._gateway.databases)

    async def _query(self, call: Call, question: channel.QueryQuestion) -> EncodedMessage:
        asker = Asker(
            principal=self._sandbox.owner,
            user_id=self._sandbox.user_id,
            sandbox_id=self._sandbox.id,
            execution_id=self._execution_id,
            line=call.line,
            origin="sandbox",
        )
        try:
            grant = self._grant(question.database)
        except DatabaseNotFound as error:
            self._gateway.note_refusal(asker, database=question.database, sql=question.sql, error=error)
            raise
        request = QueryRequest(
            asker=asker,
            grant=grant,
            limits=grant.limits.lowered(
                max_rows=None if question.max_rows is None else max(1, question.max_rows),
                max_bytes=_MAX_REPLY_BYTES // 2,
            ),
            sql=question.sql,
            named=tuple(question.named),
            positional=tuple(question.positional),
            chunk_bytes=0,
        )
        columns: tuple[channel.ResultColumn, ...] = ()
        data, rows = _NO_ROWS, 0
        ended = QueryEnded(rows=0, size_bytes=0)
        async for event in self._gateway.query(request):
            match event:
                case QueryStarted(columns=columns):
                    pass
                case QueryRows(rows=rows, data=data):
                    pass
                case QueryEnded():
                    ended = event
        encoded = memoryview(data)
        if len(encoded) > _MAX_REPLY_BYTES:
            raise ValueBytesLimit(problem="the result is too large for a sandbox", hint="ask for fewer rows")
        reply = channel.QueryReply(
            columns=list(columns),
            data=[],
            total_rows=rows,
            truncated=bool(ended.truncated_by),
            truncated_by=ended.truncated_by,
            affected=ended.affected,
            warnings=list(ended.warnings),
        )
        return channel.query_reply_frame(call.call_id, reply, encoded)

    async def _tables(self, question: channel.TablesQuestion) -> bytes:
        tables = await self._gateway.schemas.tables(self._grant(question.database))
        entries = [
            channel.TableEntry(name=table.name, kind=table.kind, estimated_rows=table.estimated_rows)
            for table in tables
        ]
        return channel.encode_payload(channel.TablesReply(tables=entries))

    async def _schema(self, question: channel.SchemaQuestion) -> bytes:
        grant = self._grant(question.database)
        return channel.encode_payload(_described(await self._gateway.schemas.table(grant, question.table)))


def _described(table: Table) -> channel.SchemaReply:
    return channel.SchemaReply(
        table=table.name,
        kind=table.kind,
        columns=[
            channel.SchemaColumn(
                name=column.name,
                db_type=column.db_type,
                nullable=column.nullable,
                primary_key=column.primary_key,
                default=column.default,
                comment=column.comment,
            )
            for column in table.columns
        ],
        primary_key=list(table.primary_key),
        foreign_keys=[
            channel.ForeignKey(
                columns=list(key.columns),
                target_table=key.target_table,
                target_columns=list(key.target_columns),
            )
            for key in table.foreign_keys
        ],
        indexes=[
            channel.Index(name=index.name, columns=list(index.columns), unique=index.unique)
            for index in table.indexes
        ],
        estimated_rows=table.estimated_rows,
        comment=table.comment,
    )


def _failed(call: Call, reason: str, message: str, hint: str = "") -> CallReply:
    return CallReply(call_id=call.call_id, error_reason=reason, error_message=message, error_hint=hint)
