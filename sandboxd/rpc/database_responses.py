"""Writes the answers of DatabaseService: events of a query, tables, audit records."""

from collections.abc import Iterator

import msgspec
from sandboxd_api.v1 import database_pb2, query_record_pb2, sandbox_pb2
from sandboxd_api.v1 import database_service_pb2 as pb

from sandboxd.channel.values import Column
from sandboxd.database.audit import QueryRecord
from sandboxd.database.grants import DatabaseGrant
from sandboxd.database.query import QueryEnded, QueryEvent, QueryRows, QueryStarted
from sandboxd.database.schema import Table
from sandboxd.rpc import responses, values

_columns = msgspec.msgpack.Decoder(list[Column])

_TYPES = {
    "bool": "BOOLEAN",
    "boolean": "BOOLEAN",
    "int2": "INTEGER",
    "int4": "INTEGER",
    "int8": "INTEGER",
    "oid": "INTEGER",
    "smallint": "INTEGER",
    "integer": "INTEGER",
    "int": "INTEGER",
    "bigint": "INTEGER",
    "float4": "FLOATING",
    "float8": "FLOATING",
    "real": "FLOATING",
    "double precision": "FLOATING",
    "numeric": "DECIMAL",
    "decimal": "DECIMAL",
    "text": "TEXT",
    "varchar": "TEXT",
    "bpchar": "TEXT",
    "name": "TEXT",
    "character varying": "TEXT",
    "character": "TEXT",
    "bytea": "BYTES",
    "blob": "BYTES",
    "timestamptz": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP",
    "timestamp": "LOCAL_DATETIME",
    "timestamp without time zone": "LOCAL_DATETIME",
    "datetime": "LOCAL_DATETIME",
    "date": "DATE",
    "time": "TIME",
    "timetz": "TIME",
    "time without time zone": "TIME",
    "interval": "INTERVAL",
    "uuid": "UUID",
    "json": "JSON",
    "jsonb": "JSON",
}


def column_type(database_type: str) -> "database_pb2.ColumnType.ValueType":
    """The engine's type as one of the contract's."""
    plain = database_type.lower().split("(")[0].strip()
    if not plain:
        return database_pb2.COLUMN_TYPE_UNSPECIFIED
    if plain.endswith("[]"):
        return database_pb2.COLUMN_TYPE_ARRAY
    return database_pb2.ColumnType.Value(f"COLUMN_TYPE_{_TYPES.get(plain, 'OTHER')}")


def query_events(event: QueryEvent) -> Iterator[pb.QueryResponse]:
    """The responses that carry one event."""
    match event:
        case QueryStarted():
            header = database_pb2.QueryHeader(
                query_id=event.query_id,
                fingerprint=event.fingerprint,
                database=event.database,
                bridged_sql=event.bridged_sql,
            )
            for column in event.columns:
                header.columns.add(
                    name=column.name, database_type=column.db_type, type=column_type(column.db_type)
                )
            yield pb.QueryResponse(header=header)
        case QueryRows():
            yield pb.QueryResponse(rows=_rows(event))
        case QueryEnded():
            yield pb.QueryResponse(trailer=_trailer(event))


def _rows(event: QueryRows) -> database_pb2.QueryRows:
    rows = database_pb2.QueryRows(row_count=event.rows)
    for column in _columns.decode(event.data):
        values.fill_column(rows.columns.add(), column)
    return rows


def _trailer(event: QueryEnded) -> database_pb2.QueryTrailer:
    trailer = database_pb2.QueryTrailer(
        row_count=event.rows,
        byte_count=event.size_bytes,
        truncated=bool(event.truncated_by),
        affected_row_count=event.affected,
        warnings=event.warnings,
    )
    if event.truncated_by:
        trailer.truncated_by = database_pb2.QueryCap.Value(f"QUERY_CAP_{event.truncated_by.upper()}")
    trailer.database_time.FromMicroseconds(event.engine_us)
    trailer.queue_time.FromMicroseconds(event.queue_us)
    return trailer


def table(value: Table, grant: DatabaseGrant, *, full: bool = True) -> database_pb2.Table:
    """A table as the grant shows it; without columns, keys and indexes where not `full`."""
    schema, _, name = value.name.rpartition(".")
    message = database_pb2.Table(
        name=name,
        schema=schema,
        kind=database_pb2.Table.KIND_VIEW if value.kind == "view" else database_pb2.Table.KIND_TABLE,
        comment=value.comment,
        estimated_row_count=value.estimated_rows,
        primary_key=value.primary_key,
    )
    for write in grant.writes:
        if write.table == value.name:
            operation = sandbox_pb2.WriteGrant.Operation.Value(f"OPERATION_{write.operation.name}")
            message.write_grants.add(table=write.table, operation=operation, columns=write.columns)
    if full:
        _describe(message, value)
    return message


def _describe(message: database_pb2.Table, value: Table) -> None:
    for column in value.columns:
        message.columns.add(
            name=column.name,
            type=column_type(column.db_type),
            database_type=column.db_type,
            nullable=column.nullable,
            has_default=column.default is not None,
            primary_key=column.primary_key,
            comment=column.comment,
        )
    for key in value.foreign_keys:
        message.foreign_keys.add(
            table=value.name,
            columns=key.columns,
            referenced_table=key.target_table,
            referenced_columns=key.target_columns,
        )
    for reference in value.referenced_by:
        message.referenced_by.add(
            table=reference.table,
            columns=reference.columns,
            referenced_table=value.name,
            referenced_columns=reference.target_columns,
        )
    for index in value.indexes:
        message.indexes.add(name=index.name, columns=index.columns, unique=index.unique)


_LAYERS = {
    "": "UNSPECIFIED",
    "grant": "GRANT",
    "text": "LIMIT",
    "limit": "LIMIT",
    "binder": "BINDER",
    "parameters": "BINDER",
    "bridge": "BRIDGE",
    "guard": "GUARD",
    "engine": "ENGINE",
    "gateway": "HOST",
}


def query_record(entry: QueryRecord) -> query_record_pb2.QueryRecord:
    """An audit record."""
    wire = query_record_pb2.QueryRecord
    message = wire(
        id=entry.id,
        create_time=responses.timestamp(entry.time),
        principal=entry.principal,
        user_id=entry.user_id,
        sandbox_id=entry.sandbox_id,
        execution_id=entry.execution_id,
        line=entry.line,
        origin=wire.ORIGIN_GUEST if entry.origin == "sandbox" else wire.ORIGIN_GRPC,
        database=entry.database,
        sql=entry.sql,
        sql_truncated=entry.sql_truncated,
        bridged_sql=entry.bridged_sql,
        fingerprint=entry.fingerprint,
        statement_kind=entry.kind,
        tables=entry.tables,
        written_columns=entry.written_columns,
        functions=entry.functions,
        verdict=wire.Verdict.Value(f"VERDICT_{entry.verdict.value}"),
        layer=wire.Layer.Value(f"LAYER_{_LAYERS.get(entry.layer, 'HOST')}"),
        reason=entry.reason,
        message=entry.message,
        sqlstate=entry.sqlstate,
        row_count=entry.rows,
        byte_count=entry.size_bytes,
        affected_row_count=entry.affected,
    )
    if entry.truncated_by:
        message.truncated_by = database_pb2.QueryCap.Value(f"QUERY_CAP_{entry.truncated_by.upper()}")
    message.queue_time.FromMicroseconds(entry.queue_us)
    message.check_time.FromMicroseconds(entry.check_us)
    message.database_time.FromMicroseconds(entry.engine_us)
    for parameter in entry.parameters:
        message.parameters.add(
            name=parameter.name,
            type_name=parameter.type_name,
            byte_count=parameter.size_bytes,
            value=parameter.value,
            redacted=parameter.redacted,
        )
    return message
