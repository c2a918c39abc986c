"""What happens to every call: who calls, what goes wrong, in one place.

One of the three places that catch everything: a bug must end one call, not the server, and must not
show its stack to a client.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog

from sandboxd.errors import SandboxdError
from sandboxd.rpc.authentication import CallAuthenticator
from sandboxd.rpc.status import code_of, trailing_metadata

_log = structlog.get_logger(__name__)

_OPEN_PREFIXES = ("/grpc.health.v1.Health/",)

_Handler = Any
"""grpc.RpcMethodHandler; its stubs know only the blocking server's contexts."""
_Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates, maps the error tree to status codes, and hides everything else behind INTERNAL."""

    def __init__(self, authenticator: CallAuthenticator) -> None:
        self._authenticator = authenticator

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(_OPEN_PREFIXES):
            return handler
        return _guarded(handler, method, self._authenticator)


def _guarded(handler: _Handler, method: str, authenticator: CallAuthenticator) -> _Handler:
    """The handler with its errors mapped; its kind and its codecs stay as they are."""
    if handler.response_streaming:
        inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
            try:
                authenticator.authenticate(context)
                async for response in inner(request, context):
                    yield response
            except Exception as error:  # noqa: BLE001  see the module's docstring
                await _end(context, error, method)

        kind = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return kind(stream, handler.request_deserializer, handler.response_serializer)
    unary_inner = handler.stream_unary if handler.request_streaming else handler.unary_unary

    async def unary(request: Any, context: _Context) -> Any:
        try:
            authenticator.authenticate(context)
            return await unary_inner(request, context)
        except Exception as error:  # noqa: BLE001  see the module's docstring
            await _end(context, error, method)

    kind_unary = (
        grpc.stream_unary_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return kind_unary(unary, handler.request_deserializer, handler.response_serializer)


async def _end(context: _Context, error: Exception, method: str) -> NoReturn:
    if isinstance(error, SandboxdError):
        await _abort(context, error)
    if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
        raise error
    _log.error("call.failed", method=method, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "the server failed to handle the call; its log says more")


async def _abort(context: _Context, error: SandboxdError) -> NoReturn:
    await context.abort(code_of(type(error)), str(error), trailing_metadata(error))
