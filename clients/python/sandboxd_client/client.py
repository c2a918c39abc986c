"""The client: one connection to a server, and everything that needs no sandbox at hand."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self, TypeAlias, Unpack
from uuid import uuid4

from sandboxd_api.v1 import execution_service_pb2, sandbox_service_pb2, trace_pb2

from sandboxd_client import credentials, events, info, info_from_wire, listing, streams
from sandboxd_client.encoding import json_or_csv
from sandboxd_client.from_wire import execution_of, result_of
from sandboxd_client.options import (
    CallOptions,
    Span,
    SpecOptions,
    duration,
    execution_options,
    spec,
    word_of,
)
from sandboxd_client.pending import Pending
from sandboxd_client.results import Execution, ExecutionResult
from sandboxd_client.sandbox import Sandbox
from sandboxd_client.traces import Trace
from sandboxd_client.transport import Retry, Transport

Analysis: TypeAlias = Literal["summary", "correlation", "quality", "value_counts", "outliers"]
_ANALYSES = ("summary", "correlation", "quality", "value_counts", "outliers")


class CreateOptions(SpecOptions, total=False):
    """What is asked of a new sandbox, and how it is called."""

    user_id: str | int
    """The user it is for; default: the principal's own."""
    request_id: str
    """Names the request for retries of your own; default: a new one, which the client's retries use."""


class QuickOptions(SpecOptions, CallOptions, total=False):
    """What is asked of a sandbox for one execution, and how that is run."""

    user_id: str | int


class Client:
    """A connection to a server: `async with Client.connect() as client`. Belongs to one event loop."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @classmethod
    def connect(
        cls,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: credentials.Tls | None = None,
        retry: Retry | None = None,
        deadline: float | None = 60.0,
    ) -> Self:
        """A client of the server at `address`, `host:port` or `unix:/path`.

        Default: `SANDBOXD_ADDRESS`, else 127.0.0.1:50051. The token is found by itself: `SANDBOXD_TOKEN`,
        else for a server of this machine its token file. `deadline` bounds, in seconds, each call that
        runs no code. Nothing is sent before the first call.
        """
        address = address or credentials.find_address()
        transport = Transport(
            address,
            token=token or credentials.find_token(address),
            tls=tls,
            retry=retry or Retry(),
            deadline=deadline,
        )
        return cls(transport)

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._transport.address

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. Sandboxes stay until they are deleted or expire."""
        await self._transport.close()

    async def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Waits for the server to accept connections; `Unreachable` after `timeout` seconds."""
        await self._transport.wait_until_ready(timeout)

    def create_sandbox(self, **options: Unpack[CreateOptions]) -> Pending[Sandbox]:
        """A new sandbox: `await` it, or `async with` it to have it deleted at the end."""

        async def start() -> Sandbox:
            request = sandbox_service_pb2.CreateSandboxRequest(
                request_id=options.get("request_id") or str(uuid4()),
                user_id=str(options.get("user_id", "")),
                spec=spec(options),
            )
            answer = await self._transport.call(self._transport.sandboxes.CreateSandbox, request)
            return Sandbox(self._transport, info_from_wire.sandbox(answer.sandbox))

        return Pending(start)

    async def get_sandbox(self, sandbox_id: str) -> Sandbox:
        """A sandbox by its id."""
        request = sandbox_service_pb2.GetSandboxRequest(sandbox_id=sandbox_id)
        answer = await self._transport.call(self._transport.sandboxes.GetSandbox, request)
        return Sandbox(self._transport, info_from_wire.sandbox(answer.sandbox))

    async def list_sandboxes(
        self, *, user_id: str | int = "", states: Sequence[str] = (), limit: int = 50
    ) -> list[info.SandboxInfo]:
        """Sandboxes, newest first; only active ones unless `states` says otherwise."""
        return await listing.sandboxes(self._transport, user_id=str(user_id), states=states, limit=limit)

    async def quick_execute(self, code: str, **options: Unpack[QuickOptions]) -> ExecutionResult:
        """Runs `code` in a sandbox made for it and deleted after it."""
        request = execution_service_pb2.QuickExecuteRequest(
            request_id=options.get("request_id") or str(uuid4()),
            user_id=str(options.get("user_id", "")),
            code=code,
            spec=spec(options),
            options=execution_options(options),
        )
        answer = await self._transport.call(
            self._transport.executions.QuickExecute,
            request,
            deadline=options.get("deadline"),
            unbounded=True,
        )
        return result_of(answer.execution)

    async def analyze_data(
        self,
        data: object,
        analysis: Analysis = "summary",
        *,
        code: str = "",
        sandbox_id: str = "",
        **options: Unpack[QuickOptions],
    ) -> ExecutionResult:
        """Runs a named analysis over `data`, or `code` that finds it in the variable `data`.

        `data` is a DataFrame, CSV text, JSON text, or whatever json.dumps takes.
        """
        request = execution_service_pb2.AnalyzeDataRequest(
            request_id=options.get("request_id") or str(uuid4()),
            user_id=str(options.get("user_id", "")),
            sandbox_id=sandbox_id,
            spec=None if sandbox_id else spec(options),
            options=execution_options(options),
        )
        kind, text = json_or_csv(data, field="data")
        if kind == "csv":
            request.csv = text
        else:
            request.json = text
        if code:
            request.code = code
        else:
            name = word_of(analysis, _ANALYSES, field="analysis")
            request.analysis = execution_service_pb2.AnalyzeDataRequest.Analysis.Value(f"ANALYSIS_{name}")
        answer = await self._transport.call(
            self._transport.executions.AnalyzeData,
            request,
            deadline=options.get("deadline"),
            unbounded=True,
        )
        return result_of(answer.execution)

    async def get_execution(self, execution_id: str, *, wait: Span | None = None) -> Execution:
        """An execution with everything known of it; waits up to `wait`, at most 60 s, for its end."""
        request = execution_service_pb2.GetExecutionRequest(
            execution_id=execution_id, wait=None if wait is None else duration(wait)
        )
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait or 0.0
        answer = await self._transport.call(
            self._transport.executions.GetExecution, request, deadline=seconds + 60.0
        )
        return execution_of(answer.execution)

    async def history(
        self,
        *,
        user_id: str | int = "",
        limit: int = 50,
        statuses: Sequence[str] = (),
        full: bool = False,
    ) -> list[Execution]:
        """Executions in all sandboxes, newest first; code, results and output only when `full`."""
        return await listing.executions(
            self._transport, user_id=str(user_id), limit=limit, statuses=statuses, full=full
        )

    def watch(
        self, execution_id: str, *, after_sequence: int = 0, deadline: float | None = None
    ) -> AsyncIterator[events.Event]:
        """The events of an execution that was started elsewhere; a watcher changes nothing."""
        return streams.watched_events(
            self._transport, execution_id, after_sequence=after_sequence, deadline=deadline
        )

    async def cancel(self, execution_id: str) -> ExecutionResult:
        """Ends an execution and tells how it ended."""
        request = execution_service_pb2.CancelExecutionRequest(execution_id=execution_id)
        answer = await self._transport.call(self._transport.executions.CancelExecution, request)
        return result_of(answer.execution)

    def trace(self, execution_id: str) -> Trace:
        """The trace that a debug run recorded: when did a variable change, what was the state at a step."""

        async def ask(query: trace_pb2.TraceQuery) -> trace_pb2.TraceAnswer:
            request = execution_service_pb2.QueryTraceRequest(execution_id=execution_id, query=query)
            return (await self._transport.call(self._transport.executions.QueryTrace, request)).answer

        return Trace(ask)

    async def statistics(
        self,
        *,
        user_id: str | int = "",
        all_users: bool = False,
        window: Span | None = None,
        sandbox_id: str = "",
    ) -> info.Statistics:
        """Figures about sandboxes and executions; `window` is how far back, default 24 h."""
        request = sandbox_service_pb2.GetStatisticsRequest(
            user_id=str(user_id),
            all_users=all_users,
            window=None if window is None else duration(window),
            sandbox_id=sandbox_id,
        )
        answer = await self._transport.call(self._transport.sandboxes.GetStatistics, request)
        return info_from_wire.statistics(answer.statistics)

    async def capabilities(self) -> info.Capabilities:
        """What the server can do: isolation, limits, versions, databases."""
        request = sandbox_service_pb2.GetCapabilitiesRequest()
        answer = await self._transport.call(self._transport.sandboxes.GetCapabilities, request)
        return info_from_wire.capabilities(answer.capabilities)

    async def functions(self) -> info.GuestApi:
        """What user code finds in a sandbox that asks for nothing."""
        return await listing.guest_api(self._transport)

    async def examples(self) -> list[info.CodeExample]:
        """Pieces of code that run in a sandbox as they are."""
        return await listing.examples(self._transport)

    async def create_processor_template(self, name: str = "data_processor") -> str:
        """Code to start a processor of a data pipeline from."""
        return await listing.processor_template(self._transport, name)
