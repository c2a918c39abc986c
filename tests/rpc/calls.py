"""Every method of the contract, called by name; and what a refusal says."""

from typing import Any

import grpc
from google.protobuf import message_factory
from google.rpc import error_details_pb2, status_pb2
from sandboxd_api.v1 import (
    database_service_pb2,
    execution_service_pb2,
    sandbox_service_pb2,
)

from tests.support.serving import Serving

_FILES = (sandbox_service_pb2, execution_service_pb2, database_service_pb2)
METHODS = [
    method
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
NOT_LET_IN = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""No good token; or too many bad ones from here of late."""


def first_answer(server: Serving, method: Any, metadata: Any, request: Any = None) -> Any:
    """Calls a method, whatever its kind, by default with an empty request."""
    request = request or message_factory.GetMessageClass(method.input_type)()
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer = message_factory.GetMessageClass(method.output_type)
    kinds = {
        (False, False): server.channel.unary_unary,
        (False, True): server.channel.unary_stream,
        (True, False): server.channel.stream_unary,
        (True, True): server.channel.stream_stream,
    }
    make = kinds[method.client_streaming, method.server_streaming]
    call = make(
        path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
    )  # type: ignore[operator]
    given = iter([request]) if method.client_streaming else request
    result = call(given, metadata=metadata, timeout=20)
    return next(iter(result), None) if method.server_streaming else result


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The details of a refusal; empty where there are none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def info_of(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    """Its reason and domain; empty where it has none."""
    info = error_details_pb2.ErrorInfo()
    for detail in status_of(error).details:
        if detail.Unpack(info):
            break
    return info


def bad_fields(error: grpc.RpcError) -> list[str]:
    """The fields it names."""
    bad = error_details_pb2.BadRequest()
    for detail in status_of(error).details:
        if detail.Unpack(bad):
            return [violation.field for violation in bad.field_violations]
    return []
