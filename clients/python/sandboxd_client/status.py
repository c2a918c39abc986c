"""Turns the status of a gRPC call into an error of this client's tree."""

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from sandboxd_client import errors, query_errors

_DETAILS_KEY = "grpc-status-details-bin"
_DOMAIN = "sandboxd"

_BY_CODE: dict[grpc.StatusCode, type[errors.SandboxdError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: errors.WrongState,
    grpc.StatusCode.ALREADY_EXISTS: errors.RequestIdReused,
    grpc.StatusCode.ABORTED: errors.WrongState,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.PERMISSION_DENIED: errors.Denied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.NotImplementedYet,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
}


def _by_reason(root: type[errors.SandboxdError]) -> dict[str, type[errors.SandboxdError]]:
    found = {root.reason: root} if "reason" in vars(root) else {}
    for child in root.__subclasses__():
        if child is not errors.ExecutionFailed and child.__module__ in _TREES:
            found |= _by_reason(child)
    return found


_TREES = (errors.__name__, query_errors.__name__)
BY_REASON = _by_reason(errors.SandboxdError)
"""The class of each reason."""


def error_of(failure: grpc.aio.AioRpcError, *, address: str) -> errors.SandboxdError:
    """The error that `failure`, met on a call to `address`, stands for."""
    details = _details_of(failure)
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    request = error_details_pb2.BadRequest()
    for detail in details.details:
        for message in (info, retry, request):
            detail.Unpack(message)
    retry_after = retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None
    text = failure.details() or failure.code().name
    if info.domain != _DOMAIN:
        return _foreign(failure.code(), text, address)
    found = BY_REASON.get(info.reason) or _BY_CODE.get(failure.code(), errors.SandboxdError)
    metadata = dict(info.metadata)
    if issubclass(found, errors.InvalidArgument):
        violations = {item.field: item.description for item in request.field_violations}
        error: errors.SandboxdError = found(
            text, metadata=metadata, retry_after=retry_after, violations=violations
        )
    else:
        error = found(text, metadata=metadata, retry_after=retry_after)
    error.reason = info.reason
    return error


def _details_of(failure: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in failure.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _foreign(code: grpc.StatusCode, text: str, address: str) -> errors.SandboxdError:
    """An error that gRPC itself made: the server never saw the call, or could not answer it."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return errors.Unreachable(
            f"no answer from sandboxd at {address}: {text}. Is it running there? `sandboxd serve` starts it."
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"sandboxd at {address} did not answer within the call's deadline")
    found = _BY_CODE.get(code, errors.SandboxdError)
    return found(f"{code.name}: {text}")
