"""Debug, DebugSession and QueryTrace at the edge. Steps pass through as the guest's bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
from sandboxd_api.v1 import execution_service_pb2, execution_service_pb2_grpc
from sandboxd_api.v1 import execution_service_pb2 as pb

from sandboxd.channel import debug
from sandboxd.channel.messages import Inspected
from sandboxd.errors import InvalidArgument, WrongState
from sandboxd.executions.debug_feed import DebugFeed
from sandboxd.executions.debug_items import FeedEnded, FeedItem
from sandboxd.executions.history import ExecutionHistory
from sandboxd.executions.live import LiveExecution
from sandboxd.executions.model import ExecutionKind
from sandboxd.executions.service import Executions
from sandboxd.rpc import debug_requests, requests
from sandboxd.rpc.authentication import current_caller
from sandboxd.rpc.debug_responses import (
    SessionWriter,
    StreamWriter,
    trace_answer,
)
from sandboxd.rpc.large import built, size_of
from sandboxd.rpc.requests import Target
from sandboxd.sandboxes.registry import SandboxRegistry
from sandboxd.sandboxes.sandbox import Sandbox

_Context = grpc.aio.ServicerContext[Any, Any]
_REFUSED_FIELDS = {"NOT_IN_TRACE": "query", "BAD_EXPRESSION": "query.first_where.expression"}


class DebugCalls:
    """What ExecutionServicer gives its three debug calls to."""

    def __init__(
        self, *, executions: Executions, history: ExecutionHistory, registry: SandboxRegistry
    ) -> None:
        self._executions = executions
        self._history = history
        self._registry = registry
        self._last_command = 0

    async def debug(self, request: pb.DebugRequest) -> AsyncIterator[bytes]:
        """The events of a debug run, each a finished DebugResponse."""
        sandbox = self._sandbox(request.sandbox_id)
        run = requests.execution(
            code=request.code,
            request_id_text=request.request_id,
            options=request.options,
            target=Target(limits=sandbox.spec.limits, kind=ExecutionKind.DEBUG),
            debug=debug_requests.settings(request.debug_options),
        )
        feed = DebugFeed(pause_seconds=1.0)
        live = await self._executions.start(sandbox, run, feed=feed)
        _require_own(live, feed)
        writer = StreamWriter(live, feed, request.debug_options)
        try:
            async for item in feed.follow():
                for response in await _written(writer, item, live):
                    yield response
                await _refused_before_it_ran(live)
        finally:
            _abandon(live, feed, cancel=not run.detach_on_disconnect)

    async def session(self, requests_in: AsyncIterator[pb.DebugSessionRequest]) -> AsyncIterator[bytes]:
        """An interactive session."""
        first = await anext(aiter(requests_in), None)
        if first is None or first.WhichOneof("command") != "start":
            raise InvalidArgument(field="command", problem="the first message must be `start`")
        start = first.start
        sandbox = self._sandbox(start.sandbox_id)
        run = requests.execution(
            code=start.code,
            request_id_text=start.request_id,
            options=start.options,
            target=Target(limits=sandbox.spec.limits, kind=ExecutionKind.DEBUG_SESSION),
            debug=debug_requests.session_settings(start),
        )
        feed = DebugFeed(pause_seconds=debug_requests.pause_seconds(start))
        live = await self._executions.start(sandbox, run, feed=feed)
        _require_own(live, feed)
        session = _Session(live, feed, first, detach=run.detach_on_disconnect)
        reader = asyncio.create_task(session.read(requests_in))
        try:
            async for item in feed.follow():
                for response in await _written(session.writer, item, live):
                    yield response
                session.raise_problem()
                await _refused_before_it_ran(live)
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reader
            session.leave()

    async def query_trace(self, request: pb.QueryTraceRequest) -> pb.QueryTraceResponse:
        """An answer about a trace that the guest still keeps."""
        execution_id = requests.identifier(request.execution_id, "execution_id")
        live = await self._history.get(owner=current_caller().visible_owner, execution_id=execution_id)
        execution = live.execution
        if execution.request.debug is None:
            raise WrongState(problem="the execution has no trace; it was not debugged")
        self._last_command += 1
        asked = debug_requests.query(request.query, command_id=-self._last_command, run_id=execution.number)
        sandbox = self._sandbox(execution.sandbox_id)
        if not live.done and live.feed is not None:
            raise WrongState(problem="the run goes on; ask in its session, or when it has ended")
        async with sandbox.turn:
            sandbox.require_active()
            answer = await sandbox.query_trace(asked)
        _raise_refusal(answer)
        return pb.QueryTraceResponse(answer=trace_answer(answer))

    def _sandbox(self, sandbox_id: str) -> Sandbox:
        return self._registry.get(
            owner=current_caller().visible_owner,
            sandbox_id=requests.identifier(sandbox_id, "sandbox_id"),
        )


class _Session:
    """One interactive session: reads commands while the other side writes what happens."""

    def __init__(
        self, live: LiveExecution, feed: DebugFeed, first: pb.DebugSessionRequest, *, detach: bool
    ) -> None:
        self._live = live
        self._feed = feed
        self._detach = detach
        self._problem: Exception | None = None
        self.writer = SessionWriter(live, feed, first)

    async def read(self, requests_in: AsyncIterator[pb.DebugSessionRequest]) -> None:
        """Takes commands until the caller has no more."""
        try:
            async for request in requests_in:
                await self._take(request)
        except InvalidArgument as error:
            self._problem = error
            self._live.cancel()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError):
            return
        else:
            if not self._live.done:
                self._end(detach=False, command_id=0)

    def raise_problem(self) -> None:
        """Ends the call when a message broke the protocol."""
        if self._problem is not None:
            raise self._problem

    def leave(self) -> None:
        """The caller is gone."""
        if not self._live.done:
            self._end(detach=self._detach, command_id=0)
        self._feed.abandon()

    async def _take(self, request: pb.DebugSessionRequest) -> None:
        kind = request.WhichOneof("command")
        if kind == "start":
            raise InvalidArgument(field="start", problem="may come only once")
        if kind == "end":
            self._end(detach=request.end.detach, command_id=request.command_id)
            return
        command = debug_requests.command(request)
        resumes = isinstance(command, debug.ResumeRun) and command.mode not in ("back", "reverse")
        if isinstance(command, debug.ResumeRun | debug.PauseRun):
            self.writer.awaits_stop(request.command_id)
        if isinstance(command, debug.EvaluateInFrame):
            await self._feed.evaluate(command)
        else:
            self._feed.send(command, resumes=resumes)

    def _end(self, *, detach: bool, command_id: int) -> None:
        if detach:
            self._feed.send(debug.DetachRun(command_id=command_id), resumes=True)
        else:
            self._live.cancel()


def _require_own(live: LiveExecution, feed: DebugFeed) -> None:
    """A debug run cannot be joined by its request id: its steps are sent once."""
    if live.feed is not feed:
        raise WrongState(problem="an execution with this request_id exists; WatchExecution follows it")


async def _written(
    writer: StreamWriter | SessionWriter, item: FeedItem, live: LiveExecution
) -> Iterable[bytes]:
    match item:
        case FeedEnded():
            return await built(lambda: list(writer.responses(item)), size=live.stored_bytes)
        case Inspected():
            return await built(lambda: list(writer.responses(item)), size=size_of(item))
    return writer.responses(item)


async def _refused_before_it_ran(live: LiveExecution) -> None:
    if live.refused is not None:
        raise live.refused


def _abandon(live: LiveExecution, feed: DebugFeed, *, cancel: bool) -> None:
    if not live.done and cancel:
        live.cancel()
    feed.abandon()


def _raise_refusal(answer: debug.CommandDone) -> None:
    if answer.kind == "trace_answer":
        return
    if answer.reason in _REFUSED_FIELDS:
        raise InvalidArgument(field=_REFUSED_FIELDS[answer.reason], problem=answer.message[:500])
    raise WrongState(problem=f"{answer.message[:500] or 'the trace is no longer kept'}; debug the code again")


class _Handlers:
    """Takes the handlers that generated code would register."""

    def __init__(self) -> None:
        self.by_method: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, _handlers: Any) -> None:
        """Built from the same table, so nothing is lost."""

    def add_registered_method_handlers(self, _service: str, handlers: dict[str, Any]) -> None:
        self.by_method = dict(handlers)


def add_execution_service(servicer: Any, server: grpc.aio.Server) -> None:
    """Registers the service as generated code does, but for the responses of Debug and DebugSession: they
    are finished bytes, where a generated serializer takes nothing but messages."""
    service = execution_service_pb2.DESCRIPTOR.services_by_name["ExecutionService"].full_name
    taken: Any = _Handlers()
    execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(servicer, taken)
    handlers = taken.by_method
    handlers["Debug"] = grpc.unary_stream_rpc_method_handler(
        servicer.Debug, request_deserializer=pb.DebugRequest.FromString, response_serializer=bytes
    )
    handlers["DebugSession"] = grpc.stream_stream_rpc_method_handler(
        servicer.DebugSession,
        request_deserializer=pb.DebugSessionRequest.FromString,
        response_serializer=bytes,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)
