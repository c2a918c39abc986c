"""One connection to a server: metadata, deadlines, safe retries, and errors as this client's own."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

import grpc
from sandboxd_api.v1 import database_service_pb2_grpc, execution_service_pb2_grpc, sandbox_service_pb2_grpc

from sandboxd_client import credentials, errors
from sandboxd_client.status import error_of

_Q = TypeVar("_Q")
_R = TypeVar("_R")

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 128 << 20),  # a result at its ceilings is more than the 4 MiB default
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How calls are repeated that met an unavailable server. Each repeat carries the same request id."""

    attempts: int = 6
    """Tries in all; 1 never repeats."""
    first_delay: float = 0.1
    """Seconds before the second try; doubled each time, and never less than the server asks for."""
    max_delay: float = 5.0
    """Most seconds between two tries, unless the server asks for more."""
    budget: float = 30.0
    """Seconds after the first failure from which on nothing is tried again."""

    def delay(self, attempt: int, asked: float | None) -> float:
        """Seconds to wait after try number `attempt`, from 1."""
        backoff = min(self.first_delay * 2.0 ** (attempt - 1), self.max_delay)
        return max(backoff * random.uniform(0.5, 1.0), asked or 0.0)  # noqa: S311 # jitter is no secret


class Transport:
    """A connection and its stubs. Opened by the first call, in the event loop of that call."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None,
        tls: credentials.Tls | None,
        retry: Retry,
        deadline: float | None,
    ) -> None:
        if tls is None and not credentials.is_local(address):
            problem = f"{address} is not this machine: give tls=Tls(...), or the token can be read on the way"
            raise errors.InvalidArgument(problem, violations={"tls": problem})
        self.address = address
        self._tls = tls
        self._token = token
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._retry = retry
        self._deadline = deadline
        self._channel: grpc.aio.Channel | None = None
        self._answered = False

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._channel is not None:
            return self._channel
        options = list(_CHANNEL_OPTIONS)
        if self._tls is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=options)
        else:
            if self._tls.server_name:
                options.append(("grpc.ssl_target_name_override", self._tls.server_name))  # type: ignore[arg-type] # gRPC takes text here
            self._channel = grpc.aio.secure_channel(
                self.address, self._tls.channel_credentials(), options=options
            )
        self._sandboxes = sandbox_service_pb2_grpc.SandboxServiceStub(self._channel)
        self._executions = execution_service_pb2_grpc.ExecutionServiceStub(self._channel)
        self._database = database_service_pb2_grpc.DatabaseServiceStub(self._channel)
        return self._channel

    @property
    def sandboxes(self) -> "sandbox_service_pb2_grpc.SandboxServiceAsyncStub":
        """Stub of SandboxService."""
        self._open()
        return self._sandboxes

    @property
    def executions(self) -> "execution_service_pb2_grpc.ExecutionServiceAsyncStub":
        """Stub of ExecutionService."""
        self._open()
        return self._executions

    @property
    def database(self) -> "database_service_pb2_grpc.DatabaseServiceAsyncStub":
        """Stub of DatabaseService."""
        self._open()
        return self._database

    async def wait_until_ready(self, timeout: float) -> None:
        """Waits for the server to accept connections; `Unreachable` after `timeout` seconds."""
        channel = self._open()
        try:
            async with asyncio.timeout(timeout):
                await channel.channel_ready()
        except TimeoutError:
            raise errors.Unreachable(f"no answer from {self.address} within {timeout:g} s") from None

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Q, _R],
        request: _Q,
        *,
        deadline: float | None = None,
        unbounded: bool = False,
    ) -> _R:
        """The answer; tried again while the server is unavailable and `deadline` seconds have not passed.

        Without `deadline` the transport's own counts, none where `unbounded`: the server bounds it itself.
        """
        seconds = deadline if deadline is not None or unbounded else self._deadline
        attempts = _Attempts(self._retry, seconds)
        while True:
            try:
                answer = await method(request, timeout=attempts.remaining(), metadata=self._metadata)
            except grpc.aio.AioRpcError as failure:
                await attempts.wait_or_raise(self._error(failure), known_server=self._answered)
            else:
                self._answered = True
                return answer

    async def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[_Q, _R],
        request: _Q,
        *,
        deadline: float | None = None,
        repeatable: bool = True,
    ) -> AsyncGenerator[_R, None]:
        """The answers; tried again only while the first has not come.

        A request that is not `repeatable` is tried again only when the server says that nothing was run.
        """
        attempts = _Attempts(self._retry, deadline)
        while True:
            started = False
            try:
                async with aclosing(self._one_stream(method, request, attempts.remaining())) as answers:
                    async for answer in answers:
                        started = self._answered = True
                        yield answer
            except grpc.aio.AioRpcError as failure:
                error = self._error(failure)
                if started or (isinstance(error, errors.Unreachable) and not repeatable):
                    raise error from None
                await attempts.wait_or_raise(error, known_server=self._answered)
            else:
                return

    async def _one_stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[_Q, _R], request: _Q, timeout: float | None
    ) -> AsyncGenerator[_R, None]:
        call = method(request, timeout=timeout, metadata=self._metadata)
        try:
            async for answer in call:
                yield answer
        finally:
            call.cancel()  # no effect on a call that has ended

    def bidirectional(
        self, method: grpc.aio.StreamStreamMultiCallable[_Q, _R]
    ) -> grpc.aio.StreamStreamCall[_Q, _R]:
        """A two-way stream; never repeated."""
        return method(metadata=self._metadata)

    def error(self, failure: grpc.aio.AioRpcError) -> errors.SandboxdError:
        """`failure` as an error of this client."""
        return self._error(failure)

    def _error(self, failure: grpc.aio.AioRpcError) -> errors.SandboxdError:
        error = error_of(failure, address=self.address)
        if isinstance(error, errors.Unauthenticated) and not self._token:
            looked = [str(path) for path in credentials.token_files(self.address)]
            where = f"; no token in SANDBOXD_TOKEN or {', '.join(looked)}" if looked else ""
            error = errors.Unauthenticated(f"{error.message}{where}", metadata=error.metadata)
        return error


class _Attempts:
    """The tries of one call, and how much time is left for them."""

    def __init__(self, retry: Retry, deadline: float | None) -> None:
        self._retry = retry
        self._end = None if deadline is None else monotonic() + deadline
        self._count = 0
        self._first_failure: float | None = None

    def remaining(self) -> float | None:
        """Seconds left; None when there is no deadline."""
        return None if self._end is None else max(self._end - monotonic(), 0.0)

    async def wait_or_raise(self, error: errors.SandboxdError, *, known_server: bool) -> None:
        """Waits for the time of another try, or raises `error` when there is none."""
        now = monotonic()
        self._count += 1
        if self._first_failure is None:
            self._first_failure = now
        if not isinstance(error, errors.Unavailable) or self._count >= self._retry.attempts:
            raise error from None
        if isinstance(error, errors.Unreachable) and not known_server:
            raise error from None  # a server that never answered is not waited for: the address may be wrong
        delay = self._retry.delay(self._count, error.retry_after)
        if now + delay - self._first_failure > self._retry.budget:
            raise error from None
        if self._end is not None and now + delay >= self._end:
            raise error from None
        await asyncio.sleep(delay)
