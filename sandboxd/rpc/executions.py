"""ExecutionService at the edge: read the request, make one call, write the answer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc.aio
from google.protobuf import timestamp_pb2
from sandboxd_api.v1 import execution_event_pb2, execution_pb2, execution_service_pb2_grpc
from sandboxd_api.v1 import execution_service_pb2 as pb

from sandboxd.accounts.principals import acting_user
from sandboxd.catalog.analyses import ANALYSES
from sandboxd.channel.messages import Input, Inspected
from sandboxd.errors import InvalidArgument, SandboxNotFound
from sandboxd.executions.events import Ended, Event, past_events
from sandboxd.executions.history import MOST_PAGE_BYTES, ExecutionHistory
from sandboxd.executions.live import LiveExecution
from sandboxd.executions.model import ExecutionKind, ExecutionRequest
from sandboxd.executions.service import Executions
from sandboxd.rpc import requests, responses, sandbox_requests
from sandboxd.rpc.authentication import current_caller
from sandboxd.rpc.debugging import DebugCalls
from sandboxd.rpc.large import built, size_of
from sandboxd.rpc.requests import Target
from sandboxd.rpc.sandbox_requests import Defaults
from sandboxd.sandboxes.model import SandboxSpec
from sandboxd.sandboxes.registry import SandboxRegistry
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.records import ExecutionState

_Response = TypeVar(
    "_Response",
    pb.ExecuteResponse,
    pb.QuickExecuteResponse,
    pb.AnalyzeDataResponse,
    pb.CancelExecutionResponse,
    pb.GetExecutionResponse,
)
"""One with an execution, which is written in place."""
_Context = grpc.aio.ServicerContext[Any, Any]
_Kind = ExecutionKind
_DEFAULT_PAGE = 50
_LARGEST_PAGE = 500
_LONGEST_WAIT_SECONDS = 60.0


class ExecutionServicer(execution_service_pb2_grpc.ExecutionServiceServicer):
    """Translates; decides nothing that is not about the wire."""

    def __init__(
        self,
        *,
        executions: Executions,
        history: ExecutionHistory,
        registry: SandboxRegistry,
        defaults: Defaults,
    ) -> None:
        self._executions = executions
        self._history = history
        self._registry = registry
        self._defaults = defaults
        self._debugging = DebugCalls(executions=executions, history=history, registry=registry)

    async def Execute(self, request: pb.ExecuteRequest, context: _Context) -> pb.ExecuteResponse:
        live = await self._start(request, _Kind.EXECUTE)
        return await self._outcome(live, pb.ExecuteResponse())

    async def StreamExecute(
        self, request: pb.StreamExecuteRequest, context: _Context
    ) -> AsyncIterator[pb.StreamExecuteResponse]:
        live = await self._start(request, _Kind.EXECUTE)
        try:
            async for event in live.events.follow():
                yield pb.StreamExecuteResponse(event=await _event(event, live))
        finally:
            _left(live)

    async def QuickExecute(
        self, request: pb.QuickExecuteRequest, context: _Context
    ) -> pb.QuickExecuteResponse:
        spec = sandbox_requests.spec(request.spec, self._defaults)
        run = requests.execution(
            code=request.code,
            request_id_text=request.request_id,
            options=request.options,
            target=Target(limits=spec.limits, kind=_Kind.QUICK_EXECUTE),
        )
        return await self._run_once(pb.QuickExecuteResponse(), request.user_id, spec, run)

    async def AnalyzeData(self, request: pb.AnalyzeDataRequest, context: _Context) -> pb.AnalyzeDataResponse:
        spec = sandbox_requests.spec(request.spec, self._defaults)
        sandbox = None
        if request.sandbox_id:
            sandbox = self._registry.get(owner=current_caller().visible_owner, sandbox_id=request.sandbox_id)
            spec = sandbox.spec
        run = requests.execution(
            code=_analysis_code(request),
            request_id_text=request.request_id,
            options=request.options,
            target=Target(limits=spec.limits, kind=_Kind.ANALYZE_DATA),
            extra_inputs=(_data(request),),
        )
        if sandbox is not None:
            live = await self._executions.start(sandbox, run)
            return await self._outcome(live, pb.AnalyzeDataResponse())
        return await self._run_once(pb.AnalyzeDataResponse(), request.user_id, spec, run)

    def Debug(self, request: pb.DebugRequest, context: _Context) -> Any:
        return self._debugging.debug(request)

    def DebugSession(self, request_iterator: AsyncIterator[pb.DebugSessionRequest], context: _Context) -> Any:
        return self._debugging.session(request_iterator)

    async def QueryTrace(self, request: pb.QueryTraceRequest, context: _Context) -> pb.QueryTraceResponse:
        return await self._debugging.query_trace(request)

    async def CancelExecution(
        self, request: pb.CancelExecutionRequest, context: _Context
    ) -> pb.CancelExecutionResponse:
        live = await self._find(request.execution_id)
        live.cancel()
        await live.wait()
        return await _filled(pb.CancelExecutionResponse(), live)

    async def GetExecution(
        self, request: pb.GetExecutionRequest, context: _Context
    ) -> pb.GetExecutionResponse:
        live = await self._find(request.execution_id)
        requests.known_enum(request.view, pb.ExecutionView, "view")
        if request.HasField("wait") and not live.done:
            await _wait_at_most(live, request.wait.ToNanoseconds() / 1e9)
        full = request.view != pb.EXECUTION_VIEW_BASIC
        return await _filled(pb.GetExecutionResponse(), live, full=full)

    async def ListExecutions(
        self, request: pb.ListExecutionsRequest, context: _Context
    ) -> pb.ListExecutionsResponse:
        size = requests.page_size(request.page_size, default=_DEFAULT_PAGE, most=_LARGEST_PAGE)
        requests.known_enum(request.view, pb.ExecutionView, "view")
        full = request.view == pb.EXECUTION_VIEW_FULL
        page, token = await self._history.list(
            _filter_of(request, owner=current_caller().visible_owner),
            page_size=size,
            page_token=request.page_token,
            full=full,
        )
        executions = await built(
            lambda: [responses.execution(item, full=full) for item in page],
            size=MOST_PAGE_BYTES if full else 0,
        )
        return pb.ListExecutionsResponse(executions=executions, next_page_token=token)

    async def WatchExecution(
        self, request: pb.WatchExecutionRequest, context: _Context
    ) -> AsyncIterator[pb.WatchExecutionResponse]:
        live = await self._find(request.execution_id)
        after = request.after_sequence
        if live.past and after >= 0:
            ended = live.execution.end_time or live.execution.create_time
            for past in past_events(after_sequence=after, time_ns=int(ended.timestamp() * 1e9)):
                yield pb.WatchExecutionResponse(event=await _event(past, live))
            return
        if after < 0 or (live.done and after > live.events.last_sequence):
            raise InvalidArgument(
                field="after_sequence",
                problem=f"must be from 0 to {live.events.last_sequence}; {after} was sent",
            )
        async for event in live.events.follow(after_sequence=after):
            yield pb.WatchExecutionResponse(event=await _event(event, live))

    # --- shared ----------------------------------------------------------------------------------

    async def _start(
        self, request: pb.ExecuteRequest | pb.StreamExecuteRequest, kind: _Kind
    ) -> LiveExecution:
        sandbox_id = requests.identifier(request.sandbox_id, "sandbox_id")
        try:
            sandbox = self._registry.get(owner=current_caller().visible_owner, sandbox_id=sandbox_id)
        except SandboxNotFound:
            earlier = await self._retried(request)
            if earlier is None:
                raise
            return earlier
        run = requests.execution(
            code=request.code,
            request_id_text=request.request_id,
            options=request.options,
            target=Target(limits=sandbox.spec.limits, kind=kind),
        )
        return await self._executions.start(sandbox, run)

    async def _retried(self, request: pb.ExecuteRequest | pb.StreamExecuteRequest) -> LiveExecution | None:
        """The first execution of a retried request whose sandbox has ended, for example by a restart."""
        request_id = requests.request_id(request.request_id)
        if not request_id:
            return None
        return await self._history.retried(
            owner=current_caller().name,
            request_id=request_id,
            sandbox_id=request.sandbox_id,
            code=request.code,
        )

    async def _outcome(self, live: LiveExecution, response: _Response) -> _Response:
        try:
            await live.wait()
        finally:
            _left(live)
        if live.refused is not None:
            raise live.refused
        return await _filled(response, live)

    async def _run_once(
        self, response: _Response, user: str, spec: SandboxSpec, run: ExecutionRequest
    ) -> _Response:
        """In a sandbox made for it and gone after it."""
        caller = current_caller()
        user_id = acting_user(caller, requests.user_id(user))
        sandbox = await self._registry.create_unrecorded(owner=caller.name, user_id=user_id, spec=spec)
        sandbox.single_use = True
        try:
            return await self._outcome(await self._executions.start(sandbox, run), response)
        finally:
            self._registry.discard(sandbox)

    async def _find(self, execution_id: str) -> LiveExecution:
        execution_id = requests.identifier(execution_id, "execution_id")
        return await self._history.get(owner=current_caller().visible_owner, execution_id=execution_id)


async def _filled(response: _Response, live: LiveExecution, *, full: bool = True) -> _Response:
    size = live.stored_bytes if full else 0
    await built(lambda: responses.fill_execution(response.execution, live.execution, full=full), size=size)
    return response


async def _event(event: Event, live: LiveExecution) -> execution_event_pb2.ExecutionEvent:
    size = 0
    if isinstance(event.body, Ended):
        size = live.stored_bytes
    elif isinstance(event.body, Inspected):
        size = size_of(event.body)
    return await built(lambda: responses.event(event, live), size=size)


def _left(live: LiveExecution) -> None:
    """The caller is gone or has its answer; an execution that was not to outlive the call is cancelled."""
    if not live.done and not live.execution.request.detach_on_disconnect:
        live.cancel()


async def _wait_at_most(live: LiveExecution, seconds: float) -> None:
    try:
        async with asyncio.timeout(min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)):
            await live.wait()
    except TimeoutError:
        return


def _analysis_code(request: pb.AnalyzeDataRequest) -> str:
    match request.WhichOneof("method"):
        case "code":
            return request.code
        case "analysis":
            value = requests.known_enum(request.analysis, pb.AnalyzeDataRequest.Analysis, "analysis")
            name = pb.AnalyzeDataRequest.Analysis.Name(value).removeprefix("ANALYSIS_")
            if name in ANALYSES:
                return ANALYSES[name]
    known = ", ".join(f"ANALYSIS_{name}" for name in ANALYSES)
    raise InvalidArgument(field="method", problem=f"is required: code, or one of {known}")


def _data(request: pb.AnalyzeDataRequest) -> Input:
    match request.WhichOneof("data"):
        case "json":
            return Input(name="data", format="json", payload=requests.bounded_text(request.json, "json"))
        case "csv":
            return Input(name="data", format="csv", payload=requests.bounded_text(request.csv, "csv"))
        case _:
            raise InvalidArgument(field="data", problem="is required: json or csv")


def _filter_of(request: pb.ListExecutionsRequest, *, owner: str | None) -> ExecutionFilter:
    states = [requests.known_enum(value, execution_pb2.Execution.State, "states") for value in request.states]
    kinds = [requests.known_enum(value, execution_pb2.Execution.Kind, "kinds") for value in request.kinds]
    state_names = [execution_pb2.Execution.State.Name(value).removeprefix("STATE_") for value in states]
    return ExecutionFilter(
        owner=owner,
        user_id=request.user_id or None,
        sandbox_id=request.sandbox_id or None,
        states=tuple(ExecutionState(name) for name in state_names if name in ExecutionState.__members__),
        kinds=tuple(execution_pb2.Execution.Kind.Name(value).removeprefix("KIND_") for value in kinds),
        created_from=_moment(request.start_time) if request.HasField("start_time") else None,
        created_before=_moment(request.end_time) if request.HasField("end_time") else None,
    )


def _moment(message: timestamp_pb2.Timestamp) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(field="start_time", problem="is not a moment in time") from None
