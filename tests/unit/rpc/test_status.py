"""Every error class has a reason and a code; none that a client can cause is INTERNAL or UNKNOWN."""

import inspect
import re

import grpc
import pytest
from google.rpc import error_details_pb2

from sandboxd import errors
from sandboxd.database import errors as database_errors
from sandboxd.errors import InvalidArgument, QuotaExceeded, SandboxdError
from sandboxd.rpc.status import code_of, details_of


def _classes() -> list[type[SandboxdError]]:
    found = [
        value
        for module in (errors, database_errors)
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, SandboxdError) and value not in (SandboxdError, database_errors.QueryError)
    ]
    return sorted(set(found), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("error", _classes(), ids=lambda cls: cls.__name__)
def test_every_error_has_a_code_that_says_what_to_do(error: type[SandboxdError]) -> None:
    assert code_of(error) not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.OK)


@pytest.mark.parametrize("error", _classes(), ids=lambda cls: cls.__name__)
def test_every_error_has_a_reason_of_its_own_shape(error: type[SandboxdError]) -> None:
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", error.reason)


def test_details_name_the_field_and_the_problem() -> None:
    status = details_of(
        InvalidArgument(field="spec.limits.threads", problem="must be from 0 to 64; 65 was sent")
    )
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert info.domain == "sandboxd"
    assert bad.field_violations[0].field == "spec.limits.threads"
    assert "65 was sent" in bad.field_violations[0].description


def test_a_full_queue_says_when_to_come_back() -> None:
    status = details_of(errors.QueueFull(resource="executions waiting", limit=3, retry_after=1.5))
    kinds = [detail.type_url.rpartition(".")[2] for detail in status.details]
    assert {"ErrorInfo", "RetryInfo"} <= set(kinds)
    assert isinstance(errors.QueueFull(resource="x", limit=1, retry_after=1.0), QuotaExceeded) == (
        "QuotaFailure" in kinds
    )
