"""The client's error tree is the server's, rebuilt from what goes over the wire."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from sandboxd_api.v1 import sandbox_service_pb2, sandbox_service_pb2_grpc
from sandboxd_client import Client, Retry, errors

import sandboxd.database.errors  # noqa: F401 # its classes are leaves of the tree
from sandboxd import errors as host_errors
from sandboxd.rpc.status import code_of, trailing_metadata

_FIELDS = {"field": "spec.limits.memory_bytes", "problem": "too much", "id": "sbx_1", "limit": 3}


def _host_classes(root: type[host_errors.SandboxdError]) -> Iterator[type[host_errors.SandboxdError]]:
    if "reason" in vars(root):  # the others are never raised
        yield root
    for child in root.__subclasses__():
        yield from _host_classes(child)


def _example(cls: type[host_errors.SandboxdError]) -> host_errors.SandboxdError:
    from dataclasses import MISSING, fields

    given = {
        field.name: _FIELDS.get(field.name, "text")
        for field in fields(cls)
        if field.default is MISSING and field.default_factory is MISSING
    }
    return cls(**given)


def _connected(address: str) -> Client:
    return Client.connect(address, token="sbt_any", retry=Retry(attempts=1))


@asynccontextmanager
async def _failing_server(error: host_errors.SandboxdError) -> AsyncIterator[str]:
    class Servicer(sandbox_service_pb2_grpc.SandboxServiceServicer):
        async def GetCapabilities(self, request: Any, context: Any) -> Any:
            context.set_trailing_metadata(trailing_metadata(error))
            await context.abort(code_of(type(error)), str(error))

    server = grpc.aio.server()
    sandbox_service_pb2_grpc.add_SandboxServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("cls", [*_host_classes(host_errors.SandboxdError)], ids=lambda cls: cls.__name__)
async def test_error_of_the_server_arrives_as_the_same_class(cls: type[host_errors.SandboxdError]) -> None:
    sent = _example(cls)
    async with _failing_server(sent) as address, _connected(address) as client:
        with pytest.raises(errors.SandboxdError) as caught:
            await client.capabilities()
    found = caught.value
    assert type(found).__name__ == cls.__name__
    assert found.reason == cls.reason
    assert [parent.__name__ for parent in type(found).__mro__] == [parent.__name__ for parent in cls.__mro__]
    assert str(found) == (str(sent) or "INTERNAL")
    assert found.metadata == sent.metadata
    assert found.retry_after == sent.retry_after_seconds


async def test_wrong_field_is_named_with_what_would_be_right() -> None:
    sent = host_errors.InvalidArgument(field="spec.limits.threads", problem="must be 0 to 64; 65 was sent")
    async with _failing_server(sent) as address, Client.connect(address) as client:
        with pytest.raises(errors.InvalidArgument) as caught:
            await client.capabilities()
    assert caught.value.field == "spec.limits.threads"
    assert caught.value.problem == "must be 0 to 64; 65 was sent"
    assert caught.value.violations == {"spec.limits.threads": "must be 0 to 64; 65 was sent"}


async def test_reason_of_a_newer_server_becomes_the_class_of_its_code() -> None:
    class Newer(host_errors.WrongState):
        reason = "NEWER_THAN_THIS_CLIENT"

    async with _failing_server(Newer(problem="p")) as address, Client.connect(address) as client:
        with pytest.raises(errors.WrongState) as caught:
            await client.capabilities()
    assert caught.value.reason == "NEWER_THAN_THIS_CLIENT"


async def test_method_that_a_server_lacks_is_not_implemented() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client.connect(f"127.0.0.1:{port}") as client:
        with pytest.raises(errors.NotImplementedYet):
            await client.capabilities()
    await server.stop(None)


async def test_address_where_nobody_listens_is_unreachable_at_once() -> None:
    async with Client.connect("127.0.0.1:1") as client:
        with pytest.raises(errors.Unreachable, match=r"127\.0\.0\.1:1.*sandboxd serve"):
            await client.capabilities()


async def test_call_beyond_its_deadline_says_so() -> None:
    class Servicer(sandbox_service_pb2_grpc.SandboxServiceServicer):
        async def GetCapabilities(self, request: Any, context: Any) -> Any:
            import asyncio

            await asyncio.Event().wait()
            return sandbox_service_pb2.GetCapabilitiesResponse()

    server = grpc.aio.server()
    sandbox_service_pb2_grpc.add_SandboxServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client.connect(f"127.0.0.1:{port}", deadline=0.2) as client:
        with pytest.raises(errors.DeadlineExceeded):
            await client.capabilities()
    await server.stop(None)
