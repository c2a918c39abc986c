"""Queries of a sandbox's databases, their results, schemas and audit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, overload

from sandboxd_api.v1 import database_pb2, database_service_pb2, query_record_pb2

from sandboxd_client import errors
from sandboxd_client.encoding import encode
from sandboxd_client.from_wire import moment, span, word
from sandboxd_client.options import QueryLimits
from sandboxd_client.transport import Transport
from sandboxd_client.values import column_values


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryColumn:
    """A column of a query's result."""

    name: str
    """Unique: a repeated name has the suffix `_2`, `_3` and so on."""
    type: str
    """Such as `integer` or `timestamp`; empty when the engine gives none."""
    database_type: str
    nullable: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult(Sequence[dict[str, Any]]):
    """Rows as dicts by column name, and what is known of the query. Behaves as a list of its rows."""

    query_id: str
    database: str
    columns: tuple[QueryColumn, ...]
    rows: tuple[dict[str, Any], ...]
    truncated: bool
    """Whether there were more rows than came."""
    truncated_by: str
    """`rows` or `bytes`; empty when nothing was cut."""
    affected_row_count: int
    database_time: timedelta
    bridged_sql: str
    """The statement as it ran, where the dialect bridge rewrote it."""
    warnings: tuple[str, ...]

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        return self.rows[place]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __str__(self) -> str:
        more = " (there were more)" if self.truncated else ""
        return f"{len(self.rows)} rows{more}: {list(self.rows)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of a database."""

    database: str
    dialect: str
    """The SQL to write, such as `sqlite` or `postgresql`."""
    tables: Mapping[str, Mapping[str, Any]]
    """By name: kind, columns, primary_key, foreign_keys, indexes and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRecord:
    """The audit record of one attempt to query."""

    id: str
    create_time: datetime | None
    principal: str
    sandbox_id: str
    execution_id: str
    line: int
    database: str
    sql: str
    fingerprint: str
    """Shared by statements that differ in literals only."""
    statement_kind: str
    tables: tuple[str, ...]
    verdict: str
    layer: str
    reason: str
    message: str
    row_count: int
    affected_row_count: int
    database_time: timedelta


async def query(
    transport: Transport,
    sandbox_id: str,
    sql: str,
    parameters: Mapping[str, object],
    *,
    database: str = "",
    limits: QueryLimits | None = None,
    deadline: float | None = None,
) -> QueryResult:
    """Runs one statement and collects its rows."""
    request = database_service_pb2.QueryRequest(
        sandbox_id=sandbox_id,
        database=database,
        sql=sql,
        parameters={name: encode(value, field=f"parameters[{name}]") for name, value in parameters.items()},
        limits=limits.to_wire() if limits else None,
    )
    header = database_pb2.QueryHeader()
    names: list[str] = []
    rows: list[dict[str, Any]] = []
    async for answer in transport.stream(
        transport.database.Query, request, deadline=deadline, repeatable=False
    ):
        match answer.WhichOneof("event"):
            case "header":
                header = answer.header
                names = unique_names([column.name for column in header.columns])
            case "rows":
                columns = [column_values(column) for column in answer.rows.columns]
                rows += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            case "trailer":
                return _result(header, names, rows, answer.trailer)
    raise errors.SandboxdError("the server ended the query without its last event")


def _result(
    header: database_pb2.QueryHeader,
    names: list[str],
    rows: list[dict[str, Any]],
    trailer: database_pb2.QueryTrailer,
) -> QueryResult:
    columns = tuple(
        QueryColumn(
            name=name,
            type=word(database_pb2.ColumnType, column.type, "COLUMN_TYPE_"),
            database_type=column.database_type,
            nullable=column.nullable if column.HasField("nullable") else None,
        )
        for name, column in zip(names, header.columns, strict=True)
    )
    return QueryResult(
        query_id=header.query_id,
        database=header.database,
        columns=columns,
        rows=tuple(rows),
        truncated=trailer.truncated,
        truncated_by=word(database_pb2.QueryCap, trailer.truncated_by, "QUERY_CAP_"),
        affected_row_count=trailer.affected_row_count,
        database_time=span(trailer.database_time),
        bridged_sql=header.bridged_sql,
        warnings=tuple(trailer.warnings),
    )


def unique_names(names: Sequence[str]) -> list[str]:
    """Each name once: the second `id` becomes `id_2`, or the next number that is free."""
    taken: set[str] = set()
    found = []
    for name in names:
        unique, number = name, 1
        while unique in taken or (unique != name and unique in names):
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique)
        found.append(unique)
    return found


async def schema(
    transport: Transport,
    sandbox_id: str,
    *,
    database: str = "",
    name_contains: str = "",
    refresh: bool = False,
) -> Schema:
    """The tables of a database, all pages."""
    tables: dict[str, Mapping[str, Any]] = {}
    token = ""
    while True:
        request = database_service_pb2.GetSchemaRequest(
            sandbox_id=sandbox_id,
            database=database,
            name_contains=name_contains,
            page_token=token,
            refresh=refresh and not token,
        )
        page = await transport.call(transport.database.GetSchema, request)
        tables |= {table.name: _table(table) for table in page.tables}
        token = page.next_page_token
        if not token:
            return Schema(database=page.database, dialect=page.dialect, tables=tables)


def _table(table: database_pb2.Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "schema": table.schema,
        "kind": word(database_pb2.Table.Kind, table.kind, "KIND_"),
        "comment": table.comment,
        "estimated_row_count": table.estimated_row_count if table.HasField("estimated_row_count") else None,
        "columns": [
            {
                "name": column.name,
                "type": word(database_pb2.ColumnType, column.type, "COLUMN_TYPE_"),
                "database_type": column.database_type,
                "nullable": column.nullable,
                "has_default": column.has_default,
                "primary_key": column.primary_key,
                "comment": column.comment,
            }
            for column in table.columns
        ],
        "primary_key": list(table.primary_key),
        "foreign_keys": [_foreign_key(key) for key in table.foreign_keys],
        "referenced_by": [_foreign_key(key) for key in table.referenced_by],
        "indexes": [
            {"name": index.name, "columns": list(index.columns), "unique": index.unique}
            for index in table.indexes
        ],
    }


def _foreign_key(key: database_pb2.ForeignKey) -> dict[str, Any]:
    return {
        "table": key.table,
        "columns": list(key.columns),
        "referenced_table": key.referenced_table,
        "referenced_columns": list(key.referenced_columns),
    }


async def audit(transport: Transport, *, sandbox_id: str = "", limit: int = 50) -> list[QueryRecord]:
    """Audit records, newest first."""
    found: list[QueryRecord] = []
    token = ""
    while len(found) < limit:
        request = database_service_pb2.ListQueriesRequest(
            sandbox_id=sandbox_id, page_size=min(limit - len(found), 500), page_token=token
        )
        page = await transport.call(transport.database.ListQueries, request)
        found += [_record(record) for record in page.queries]
        token = page.next_page_token
        if not token:
            break
    return found[:limit]


def _record(record: query_record_pb2.QueryRecord) -> QueryRecord:
    return QueryRecord(
        id=record.id,
        create_time=moment(record.create_time),
        principal=record.principal,
        sandbox_id=record.sandbox_id,
        execution_id=record.execution_id,
        line=record.line,
        database=record.database,
        sql=record.sql,
        fingerprint=record.fingerprint,
        statement_kind=record.statement_kind,
        tables=tuple(record.tables),
        verdict=word(query_record_pb2.QueryRecord.Verdict, record.verdict, "VERDICT_"),
        layer=word(query_record_pb2.QueryRecord.Layer, record.layer, "LAYER_"),
        reason=record.reason,
        message=record.message,
        row_count=record.row_count,
        affected_row_count=record.affected_row_count,
        database_time=span(record.database_time),
    )
