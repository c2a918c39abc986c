"""From the error tree to the wire: one table of codes, and the details that let a client act on them."""

import grpc
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from sandboxd import errors
from sandboxd.database import errors as database_errors
from sandboxd.errors import InvalidArgument, NotFound, QuotaExceeded, SandboxdError

DOMAIN = "sandboxd"

CODES: dict[type[SandboxdError], grpc.StatusCode] = {
    errors.SandboxdError: grpc.StatusCode.INTERNAL,
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RequestIdReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Denied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.NotImplementedYet: grpc.StatusCode.UNIMPLEMENTED,
    database_errors.QueryTextError: grpc.StatusCode.INVALID_ARGUMENT,
    database_errors.QueryDenied: grpc.StatusCode.PERMISSION_DENIED,
    database_errors.QueryLimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    database_errors.QueryTimeLimit: grpc.StatusCode.DEADLINE_EXCEEDED,
    database_errors.SqlConstraintViolated: grpc.StatusCode.FAILED_PRECONDITION,
    database_errors.SqlConflict: grpc.StatusCode.ABORTED,
    database_errors.QueryCancelled: grpc.StatusCode.CANCELLED,
    database_errors.DatabaseUnavailable: grpc.StatusCode.UNAVAILABLE,
    database_errors.DialectUnsupported: grpc.StatusCode.UNIMPLEMENTED,
}
"""A class that is not here has the code of its nearest parent."""

_DETAILS_KEY = "grpc-status-details-bin"


def code_of(error: type[SandboxdError]) -> grpc.StatusCode:
    """The canonical code of an error class."""
    for cls in error.__mro__:
        if cls in CODES:
            return CODES[cls]
    return grpc.StatusCode.INTERNAL


def details_of(error: SandboxdError) -> status_pb2.Status:
    """The rich status: ErrorInfo always; BadRequest, ResourceInfo, QuotaFailure, RetryInfo where they fit."""
    code = code_of(type(error))
    status = status_pb2.Status(code=getattr(code_pb2, code.name), message=str(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.problem)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, NotFound):
        resource = error_details_pb2.ResourceInfo(resource_type=error.kind, resource_name=error.id)
        status.details.add().Pack(resource)
    if isinstance(error, QuotaExceeded):
        quota = error_details_pb2.QuotaFailure.Violation(subject=error.resource, description=str(error))
        status.details.add().Pack(error_details_pb2.QuotaFailure(violations=[quota]))
    seconds = error.retry_after_seconds
    if seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(seconds * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def trailing_metadata(error: SandboxdError) -> tuple[tuple[str, bytes], ...]:
    """The details as gRPC carries them."""
    return ((_DETAILS_KEY, details_of(error).SerializeToString()),)
