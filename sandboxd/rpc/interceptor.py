"""What happens to every call: who calls, what goes wrong, in one place.

One of the three places that catch everything: a bug must end one call, not the server, and must not
show its stack to a client.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
import structlog

from sandboxd.errors import SandboxdError
from sandboxd.rpc.authentication import CallAuthenticator
from sandboxd.rpc.call_ids import REQUEST_ID_KEY, CallIds, call_ids
from sandboxd.rpc.status import code_of, trailing_metadata

_log = structlog.get_logger(__name__)

_OPEN_PREFIXES = ("/grpc.health.v1.Health/",)

_Handler = Any
"""grpc.RpcMethodHandler; its stubs know only the blocking server's contexts."""
_Context = grpc.aio.ServicerContext[Any, Any]


AroundCall: TypeAlias = Callable[[str, str], AbstractContextManager[None]]
"""Given a method and a traceparent, which may be empty."""
_NOTHING = nullcontext()


def _nothing_around(_method: str, _traceparent: str) -> AbstractContextManager[None]:
    return _NOTHING


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates, maps the error tree to status codes, and hides everything else behind INTERNAL."""

    def __init__(
        self,
        authenticator: CallAuthenticator,
        *,
        on_refused: Callable[[str], None],
        around: AroundCall | None = None,
    ) -> None:
        """`on_refused` is told the reason of every call that ends with an error; each call runs in the
        context that `around` makes of its method and its traceparent."""
        self._authenticator = authenticator
        self._on_refused = on_refused
        self._around = around or _nothing_around

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(_OPEN_PREFIXES):
            return handler
        return self._guarded(handler, method)

    def _guarded(self, handler: _Handler, method: str) -> _Handler:
        """The handler with its errors mapped; its kind and its codecs stay as they are."""
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

            async def stream(request: Any, context: _Context) -> AsyncIterator[Any]:
                ids = call_ids(_metadata(context))
                with self._around(method, ids.traceparent):
                    try:
                        await self._begin(context, ids)
                        async for response in inner(request, context):
                            yield response
                    except Exception as error:  # noqa: BLE001  see the module's docstring
                        await self._end(context, error, method, ids)

            kind = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return kind(stream, handler.request_deserializer, handler.response_serializer)
        unary_inner = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def unary(request: Any, context: _Context) -> Any:
            ids = call_ids(_metadata(context))
            with self._around(method, ids.traceparent):
                try:
                    await self._begin(context, ids)
                    return await unary_inner(request, context)
                except Exception as error:  # noqa: BLE001  see the module's docstring
                    await self._end(context, error, method, ids)

        kind_unary = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return kind_unary(unary, handler.request_deserializer, handler.response_serializer)

    async def _begin(self, context: _Context, ids: CallIds) -> None:
        ids.bind()
        if ids.given:  # a message of its own on the wire: only for who asked
            await context.send_initial_metadata(ids.given)
        self._authenticator.authenticate(context)

    async def _end(self, context: _Context, error: Exception, method: str, ids: CallIds) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
            raise error
        request_id = (REQUEST_ID_KEY, ids.request_id)
        if isinstance(error, SandboxdError):
            self._on_refused(error.reason)
            _log.debug("call.refused", method=method, reason=error.reason)
            details = trailing_metadata(error)
            await context.abort(code_of(type(error)), str(error), (*details, request_id))
        self._on_refused(SandboxdError.reason)
        _log.error("call.failed", method=method, exc_info=error)
        problem = f"the server failed to handle the call; its log says more, request id {ids.request_id}"
        await context.abort(grpc.StatusCode.INTERNAL, problem, (request_id,))


def _metadata(context: _Context) -> Iterable[tuple[str, str | bytes]]:
    return context.invocation_metadata() or ()
