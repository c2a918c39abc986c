"""DatabaseService at the edge."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from sandboxd_api.v1 import database_service_pb2 as pb
from sandboxd_api.v1 import database_service_pb2_grpc

from sandboxd.errors import NotImplementedYet

_Context = grpc.aio.ServicerContext[Any, Any]


class DatabaseServicer(database_service_pb2_grpc.DatabaseServiceServicer):
    """Not part of this version: every call says so."""

    def Query(self, request: pb.QueryRequest, context: _Context) -> AsyncIterator[pb.QueryResponse]:
        raise NotImplementedYet(feature="Query")

    async def GetSchema(self, request: pb.GetSchemaRequest, context: _Context) -> pb.GetSchemaResponse:
        raise NotImplementedYet(feature="GetSchema")

    async def ListTables(self, request: pb.ListTablesRequest, context: _Context) -> pb.ListTablesResponse:
        raise NotImplementedYet(feature="ListTables")

    async def GetTable(self, request: pb.GetTableRequest, context: _Context) -> pb.GetTableResponse:
        raise NotImplementedYet(feature="GetTable")

    async def ListQueries(self, request: pb.ListQueriesRequest, context: _Context) -> pb.ListQueriesResponse:
        raise NotImplementedYet(feature="ListQueries")
