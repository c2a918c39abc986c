"""A sandbox as a caller sees it: run code in it, look into it, branch it, rewind it, delete it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack
from uuid import uuid4

from sandboxd_api.v1 import execution_service_pb2, sandbox_service_pb2

from sandboxd_client import errors, events, info_from_wire, listing, queries, streams
from sandboxd_client.best_of import Best, best_of
from sandboxd_client.debug_session import DebugSession, SessionOptions
from sandboxd_client.debugging import DebugEvent, TraceOptions, debug_events, trace_options
from sandboxd_client.from_wire import result_of
from sandboxd_client.info import Checkpoint, CodeExample, GuestApi, Rewound, SandboxInfo, SandboxState
from sandboxd_client.options import CallOptions, QueryLimits, Span, duration, execution_options
from sandboxd_client.pending import Pending
from sandboxd_client.results import Execution, ExecutionResult
from sandboxd_client.transport import Transport


class Sandbox:
    """An isolated Python session. As a context it deletes itself at the end."""

    def __init__(self, transport: Transport, found: SandboxInfo) -> None:
        self._transport = transport
        self._info = found

    @property
    def id(self) -> str:
        """Its id."""
        return self._info.id

    @property
    def info(self) -> SandboxInfo:
        """What the server last told of it; `refresh` asks again."""
        return self._info

    def __repr__(self) -> str:
        return f"<Sandbox {self.id} {self._info.state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.delete()
        except errors.NotFound:
            pass  # it is gone, which is what was wanted
        except errors.Unavailable:
            if error is None:
                raise

    async def execute(self, code: str, **options: Unpack[CallOptions]) -> ExecutionResult:
        """Runs `code` and tells how it ended; a failure of the code is in the result, never raised.

        Options: see `CallOptions`. A retry after a lost connection never runs the code twice.
        """
        request = execution_service_pb2.ExecuteRequest(
            request_id=options.get("request_id") or str(uuid4()),
            sandbox_id=self.id,
            code=code,
            options=execution_options(options),
        )
        answer = await self._transport.call(
            self._transport.executions.Execute, request, deadline=options.get("deadline"), unbounded=True
        )
        return result_of(answer.execution)

    def stream(self, code: str, **options: Unpack[CallOptions]) -> AsyncIterator[events.Event]:
        """Runs `code` and tells what happens while it happens; the last event is `Finished`."""
        request = execution_service_pb2.StreamExecuteRequest(
            request_id=options.get("request_id") or str(uuid4()),
            sandbox_id=self.id,
            code=code,
            options=execution_options(options),
        )
        return streams.execution_events(self._transport, request, deadline=options.get("deadline"))

    async def refresh(self) -> SandboxInfo:
        """Asks the server for what it knows of the sandbox; does not renew its life."""
        request = sandbox_service_pb2.GetSandboxRequest(sandbox_id=self.id)
        answer = await self._transport.call(self._transport.sandboxes.GetSandbox, request)
        self._info = info_from_wire.sandbox(answer.sandbox)
        return self._info

    async def state(self, *, max_variables: int | None = None) -> SandboxState:
        """The session's variables and what it uses; waits for a running execution for up to 10 s."""
        request = sandbox_service_pb2.GetSandboxStateRequest(sandbox_id=self.id, max_variables=max_variables)
        answer = await self._transport.call(self._transport.sandboxes.GetSandboxState, request)
        return info_from_wire.sandbox_state(answer)

    async def delete(self) -> SandboxInfo:
        """Ends it: processes, files, checkpoints. Its history stays, its branches live on."""
        request = sandbox_service_pb2.DeleteSandboxRequest(sandbox_id=self.id)
        answer = await self._transport.call(self._transport.sandboxes.DeleteSandbox, request)
        self._info = info_from_wire.sandbox(answer.sandbox)
        return self._info

    async def cancel(self) -> ExecutionResult | None:
        """Ends the running execution and tells how it ended; None when nothing runs."""
        running = (await self.refresh()).running_execution_id
        if not running:
            return None
        request = execution_service_pb2.CancelExecutionRequest(execution_id=running)
        answer = await self._transport.call(self._transport.executions.CancelExecution, request)
        return result_of(answer.execution)

    async def history(
        self, *, limit: int = 50, statuses: Sequence[str] = (), full: bool = False
    ) -> list[Execution]:
        """Its executions, newest first; code, results and output only when `full`."""
        return await listing.executions(
            self._transport, sandbox_id=self.id, limit=limit, statuses=statuses, full=full
        )

    async def functions(self) -> GuestApi:
        """What user code finds in its namespace and what it may import."""
        return await listing.guest_api(self._transport, sandbox_id=self.id)

    async def examples(self) -> list[CodeExample]:
        """Pieces of code that run here as they are."""
        return await listing.examples(self._transport, sandbox_id=self.id)

    async def create_processor_template(self, name: str = "data_processor") -> str:
        """Code to start a processor of a data pipeline from."""
        return await listing.processor_template(self._transport, name, sandbox_id=self.id)

    def branch(
        self, *, checkpoint_id: str = "", idle_timeout: Span | None = None, request_id: str | None = None
    ) -> "Pending[Sandbox]":
        """A sandbox that starts from this one's state: `await` it, or `async with` it to have it deleted."""

        async def start() -> Sandbox:
            found = await self.branches(
                1, checkpoint_id=checkpoint_id, idle_timeout=idle_timeout, request_id=request_id
            )
            return found[0]

        return Pending(start)

    async def branches(
        self,
        count: int,
        *,
        checkpoint_id: str = "",
        idle_timeout: Span | None = None,
        request_id: str | None = None,
    ) -> "list[Sandbox]":
        """As many branches at once, all of them or none; each must be deleted by the caller, or expires."""
        request = sandbox_service_pb2.ForkSandboxRequest(
            request_id=request_id or str(uuid4()),
            sandbox_id=self.id,
            count=count,
            checkpoint_id=checkpoint_id,
            idle_timeout=None if idle_timeout is None else duration(idle_timeout),
        )
        answer = await self._transport.call(self._transport.sandboxes.ForkSandbox, request)
        return [Sandbox(self._transport, info_from_wire.sandbox(found)) for found in answer.sandboxes]

    async def best_of(
        self,
        candidates: Sequence[str],
        *,
        score: Callable[[ExecutionResult], float | Awaitable[float]] | None = None,
        timeout: Span | None = None,
    ) -> Best:
        """Runs each candidate in a branch of its own; this sandbox goes on as the best one's branch.

        `score` judges a result, the highest wins, the first of equals; default: whatever completes. When
        none completes, nothing changes. The winner's branch takes this object's place, under its own id;
        the sandbox it was branched from and the other branches are deleted.
        """
        best = await best_of(self, candidates, score=score, timeout=timeout)
        if best.sandbox is not None:
            await self.delete()
            self._info = best.sandbox.info
        return best

    async def checkpoint(self, name: str) -> Checkpoint:
        """Keeps the session's state under a name until it is dropped; a name in use moves."""
        request = sandbox_service_pb2.CreateCheckpointRequest(sandbox_id=self.id, name=name)
        answer = await self._transport.call(self._transport.sandboxes.CreateCheckpoint, request)
        return info_from_wire.checkpoint(answer.checkpoint)

    async def checkpoints(self) -> list[Checkpoint]:
        """The states that are kept, newest first."""
        return await listing.checkpoints(self._transport, sandbox_id=self.id)

    async def drop_checkpoint(self, name: str = "", *, checkpoint_id: str = "") -> Checkpoint:
        """Drops a kept state, by name or by id."""
        request = sandbox_service_pb2.DropCheckpointRequest(sandbox_id=self.id)
        if checkpoint_id:
            request.checkpoint_id = checkpoint_id
        else:
            request.checkpoint_name = name
        answer = await self._transport.call(self._transport.sandboxes.DropCheckpoint, request)
        return info_from_wire.checkpoint(answer.checkpoint)

    async def rewind(
        self,
        to: str = "",
        *,
        before: int | str | None = None,
        checkpoint_id: str = "",
    ) -> Rewound:
        """Makes an earlier state the session again.

        `to` is the name of a checkpoint, `before` the number or id of the execution to go back before,
        `checkpoint_id` the id of a checkpoint; give one of them.
        """
        request = sandbox_service_pb2.RewindSandboxRequest(sandbox_id=self.id)
        if [bool(to), before is not None, bool(checkpoint_id)].count(True) != 1:
            problem = "give exactly one of a checkpoint's name, `before`, or `checkpoint_id`"
            raise errors.InvalidArgument(f"target: {problem}", violations={"target": problem})
        if to:
            request.checkpoint_name = to
        elif checkpoint_id:
            request.checkpoint_id = checkpoint_id
        elif isinstance(before, int):
            request.before_execution_number = before
        elif before is not None:
            request.before_execution_id = before
        answer = await self._transport.call(self._transport.sandboxes.RewindSandbox, request)
        self._info = info_from_wire.sandbox(answer.sandbox)
        return info_from_wire.rewound(answer)

    async def query(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        *,
        database: str = "",
        limits: QueryLimits | None = None,
        deadline: float | None = None,
    ) -> queries.QueryResult:
        """Runs one SQL statement with `:name` parameters under the sandbox's grants."""
        return await queries.query(
            self._transport,
            self.id,
            sql,
            parameters or {},
            database=database,
            limits=limits,
            deadline=deadline,
        )

    async def schema(
        self, *, database: str = "", name_contains: str = "", refresh: bool = False
    ) -> queries.Schema:
        """The tables of a database with columns, keys and indexes."""
        return await queries.schema(
            self._transport, self.id, database=database, name_contains=name_contains, refresh=refresh
        )

    async def audit(self, *, limit: int = 50) -> list[queries.QueryRecord]:
        """The audit of its queries, newest first, refused ones included."""
        return await queries.audit(self._transport, sandbox_id=self.id, limit=limit)

    def debug(
        self, code: str, trace: TraceOptions | None = None, **options: Unpack[CallOptions]
    ) -> AsyncIterator[DebugEvent]:
        """Runs `code` and tells each step; the last event is `DebugFinished`."""
        request = execution_service_pb2.DebugRequest(
            request_id=options.get("request_id") or str(uuid4()),
            sandbox_id=self.id,
            code=code,
            options=execution_options(options),
            debug_options=trace_options(trace or {}),
        )
        return debug_events(self._transport, request, deadline=options.get("deadline"))

    def debug_session(self, code: str, **options: Unpack[SessionOptions]) -> DebugSession:
        """An interactive session: `async with sandbox.debug_session(code, breakpoints=[3]) as session`."""
        return DebugSession(self._transport, self.id, code, options)
