"""DatabaseService at the edge: read the request, make one call, write the answer."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio
from sandboxd_api.v1 import database_service_pb2 as pb
from sandboxd_api.v1 import database_service_pb2_grpc

from sandboxd.database.audit import AuditLog
from sandboxd.database.errors import DatabaseNotFound
from sandboxd.database.gateway import DatabaseGateway
from sandboxd.database.granting import grant_for
from sandboxd.database.grants import DatabaseGrant
from sandboxd.database.query import Asker, QueryEvent, QueryRequest
from sandboxd.database.schema import Table
from sandboxd.errors import InvalidArgument
from sandboxd.rpc import database_requests, database_responses, paging, requests
from sandboxd.rpc.authentication import current_caller
from sandboxd.sandboxes.registry import SandboxRegistry
from sandboxd.sandboxes.sandbox import Sandbox

_Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_SCHEMA_PAGE, _LARGEST_SCHEMA_PAGE = 100, 500
_DEFAULT_TABLES_PAGE, _LARGEST_TABLES_PAGE = 500, 5000
_DEFAULT_QUERIES_PAGE, _LARGEST_QUERIES_PAGE = 50, 500
_CHUNK_BYTES = 256 * 1024
"""Bytes of values; on the wire they take up to four times as much, and a message stays below 1 MiB."""


class DatabaseServicer(database_service_pb2_grpc.DatabaseServiceServicer):
    """Translates; decides nothing that is not about the wire."""

    def __init__(self, *, gateway: DatabaseGateway, registry: SandboxRegistry, audit: AuditLog) -> None:
        self._gateway = gateway
        self._registry = registry
        self._audit = audit

    async def Query(self, request: pb.QueryRequest, context: _Context) -> AsyncIterator[pb.QueryResponse]:
        sandbox = self._find(request.sandbox_id)
        sandbox.touch()
        sequence = 0
        async with aclosing(self._events(sandbox, request)) as events:
            async for event in events:
                for response in database_responses.query_events(event):
                    sequence += 1
                    response.sequence = sequence
                    yield response
        sandbox.touch()

    def _events(self, sandbox: Sandbox, request: pb.QueryRequest) -> AsyncGenerator[QueryEvent, None]:
        asker = Asker(principal=current_caller().name, user_id=sandbox.user_id, sandbox_id=sandbox.id)
        try:
            grant = self._grant(sandbox, request.database)
        except DatabaseNotFound as error:
            self._gateway.note_refusal(asker, database=request.database, sql=request.sql, error=error)
            raise
        try:
            query = QueryRequest(
                asker=asker,
                grant=grant,
                limits=database_requests.limits(request.limits, grant.limits),
                sql=database_requests.statement(request.sql),
                named=database_requests.parameters(request.parameters),
                chunk_bytes=_CHUNK_BYTES,
            )
        except InvalidArgument as error:
            self._gateway.note_refusal(
                asker, database=grant.database, sql=request.sql, error=error, layer="text"
            )
            raise
        return self._gateway.query(query)

    async def GetSchema(self, request: pb.GetSchemaRequest, context: _Context) -> pb.GetSchemaResponse:
        grant = self._grant(self._find(request.sandbox_id), request.database)
        size = requests.page_size(request.page_size, default=_DEFAULT_SCHEMA_PAGE, most=_LARGEST_SCHEMA_PAGE)
        tables = await self._gateway.schemas.tables(grant, refresh=request.refresh)
        found = _matching(tables, request.name_contains)
        page, token = paging.page(found, size=size, token=request.page_token, key=lambda table: table.name)
        return pb.GetSchemaResponse(
            database=grant.database,
            dialect=self._gateway.databases[grant.database].dialect,
            tables=[database_responses.table(table, grant) for table in page],
            next_page_token=token,
            total_table_count=len(found),
        )

    async def ListTables(self, request: pb.ListTablesRequest, context: _Context) -> pb.ListTablesResponse:
        grant = self._grant(self._find(request.sandbox_id), request.database)
        size = requests.page_size(request.page_size, default=_DEFAULT_TABLES_PAGE, most=_LARGEST_TABLES_PAGE)
        found = _matching(await self._gateway.schemas.tables(grant), request.name_contains)
        page, token = paging.page(found, size=size, token=request.page_token, key=lambda table: table.name)
        return pb.ListTablesResponse(
            tables=[database_responses.table(table, grant, full=False) for table in page],
            next_page_token=token,
            total_table_count=len(found),
        )

    async def GetTable(self, request: pb.GetTableRequest, context: _Context) -> pb.GetTableResponse:
        grant = self._grant(self._find(request.sandbox_id), request.database)
        if not request.table:
            raise InvalidArgument(field="table", problem="is required")
        found = await self._gateway.schemas.table(grant, request.table[:200])
        return pb.GetTableResponse(table=database_responses.table(found, grant))

    async def ListQueries(self, request: pb.ListQueriesRequest, context: _Context) -> pb.ListQueriesResponse:
        size = requests.page_size(
            request.page_size, default=_DEFAULT_QUERIES_PAGE, most=_LARGEST_QUERIES_PAGE
        )
        wanted = database_requests.audit_filter(request, principal=current_caller().visible_owner or "")
        try:
            entries, token = await self._audit.list(wanted, page_size=size, page_token=request.page_token)
        except ValueError:
            raise InvalidArgument(
                field="page_token", problem="is not of this list; start again without it"
            ) from None
        return pb.ListQueriesResponse(
            queries=[database_responses.query_record(entry) for entry in entries], next_page_token=token
        )

    def _find(self, sandbox_id: str) -> Sandbox:
        sandbox_id = requests.identifier(sandbox_id, "sandbox_id")
        sandbox = self._registry.get(owner=current_caller().visible_owner, sandbox_id=sandbox_id)
        sandbox.require_active()
        return sandbox

    def _grant(self, sandbox: Sandbox, database: str) -> DatabaseGrant:
        return grant_for(database[:200], sandbox.spec.database_grants, self._gateway.databases)


def _matching(tables: list[Table], name_contains: str) -> list[Table]:
    wanted = name_contains.lower()
    return [table for table in tables if wanted in table.name.lower()]
