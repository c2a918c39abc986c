"""An interactive debug session: breakpoints, steps, a look at frames, and at the past."""

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from uuid import uuid4

import grpc
from sandboxd_api.v1 import debug_session_pb2, execution_service_pb2, trace_pb2

from sandboxd_client import errors, from_wire
from sandboxd_client.debug_stops import (
    Breakpoint,
    Stopped,
    VerifiedBreakpoint,
    breakpoint_of,
    exceptions_of,
    stopped_of,
)
from sandboxd_client.debugging import DebugFinished, TraceOptions, finished, trace_options
from sandboxd_client.options import RunOptions, Span, duration, execution_options
from sandboxd_client.results import Variable
from sandboxd_client.traces import Trace
from sandboxd_client.transport import Transport

_END_SECONDS = 10.0


class CommandRefused(errors.SandboxdError):
    """A command that could not be carried out; the session goes on."""

    reason = "COMMAND_REFUSED"


class SessionOptions(RunOptions, total=False):
    """How a session is run. Every key may be left out."""

    breakpoints: Sequence[Breakpoint | int]
    """Where to stop: lines, or breakpoints with conditions."""
    exceptions: Literal["never", "uncaught", "raised"]
    """Which exceptions to stop at; default: those that user code does not catch."""
    stop_at_entry: bool
    pause_timeout: Span
    """The longest one stop may last; default 5 min."""
    record_trace: bool
    """Whether the past can be looked at; default: yes."""
    trace: TraceOptions
    request_id: str


Outcome: TypeAlias = Stopped | DebugFinished


class DebugSession:
    """`async with sandbox.debug_session(code, breakpoints=[3]) as session`; leaving it ends the run."""

    def __init__(self, transport: Transport, sandbox_id: str, code: str, options: SessionOptions) -> None:
        self._transport = transport
        self._start = _start(sandbox_id, code, options)
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._last_command = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._stops: asyncio.Queue[Outcome | errors.SandboxdError] = asyncio.Queue()
        self.execution_id = ""
        self.executable_lines: tuple[int, ...] = ()
        """Lines where breakpoints can be."""
        self.breakpoints: tuple[VerifiedBreakpoint, ...] = ()
        self.finished: DebugFinished | None = None
        """Set when the run has ended."""

    async def __aenter__(self) -> Self:
        self._call = self._transport.bidirectional(self._transport.executions.DebugSession)
        self._reader = asyncio.create_task(self._read())
        answer = await self._command(start=self._start)
        self.execution_id = answer.started.execution_id
        self.executable_lines = tuple(answer.started.executable_lines)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._reader is not None
        try:
            if self.finished is None and not self._reader.done() and error is None:
                async with asyncio.timeout(_END_SECONDS):
                    await self.end()
        except (errors.SandboxdError, TimeoutError):
            pass  # the run ends with the call at the latest
        finally:
            self._call.cancel()
            await asyncio.wait([self._reader])

    async def wait(self) -> Outcome:
        """The next stop, or the end."""
        if self.finished is not None and self._stops.empty():
            return self.finished
        outcome = await self._stops.get()
        if isinstance(outcome, errors.SandboxdError):
            self._stops.put_nowait(outcome)
            raise outcome
        return outcome

    async def resume(self) -> Outcome:
        """Goes on to the next breakpoint."""
        return await self._resume("CONTINUE")

    async def step_over(self) -> Outcome:
        """Goes on to the next line of this function or its caller."""
        return await self._resume("STEP_OVER")

    async def step_into(self) -> Outcome:
        """Goes on to the next line, in functions called too."""
        return await self._resume("STEP_INTO")

    async def step_out(self) -> Outcome:
        """Goes on to the return of this function."""
        return await self._resume("STEP_OUT")

    async def run_to(self, line: int) -> Outcome:
        """Goes on to a line, or to the return of this function."""
        return await self._resume("RUN_TO_LINE", line=line)

    async def step_back(self) -> Outcome:
        """Looks at the step before: a view of the past."""
        return await self._resume("STEP_BACK")

    async def reverse(self) -> Outcome:
        """Looks at the last breakpoint before: a view of the past."""
        return await self._resume("REVERSE_CONTINUE")

    async def pause(self) -> Outcome:
        """Stops a running program at its next line."""
        number, refused = self._expect()
        await self._write(number, pause=debug_session_pb2.Pause())
        return await self._stop_or_refusal(number, refused)

    async def set_breakpoints(
        self, breakpoints: Sequence[Breakpoint | int], *, exceptions: str = ""
    ) -> tuple[VerifiedBreakpoint, ...]:
        """Replaces the breakpoints; allowed while it runs."""
        request = debug_session_pb2.SetBreakpoints(
            breakpoints=[breakpoint_of(item) for item in breakpoints],
        )
        if exceptions:
            request.exception_breakpoint = exceptions_of(exceptions)
        await self._command(set_breakpoints=request)
        return self.breakpoints

    async def evaluate(
        self,
        expression: str,
        *,
        frame: int = 0,
        allow_side_effects: bool = False,
        timeout: Span | None = None,
    ) -> Variable:
        """The value of an expression in a frame, 0 being the innermost; `CommandRefused` when it fails.

        Without `allow_side_effects` it runs in a copy that is thrown away.
        """
        request = debug_session_pb2.Evaluate(
            expression=expression,
            frame=frame,
            allow_side_effects=allow_side_effects,
            timeout=None if timeout is None else duration(timeout),
        )
        answer = (await self._command(evaluate=request)).evaluated
        if answer.HasField("failure"):
            raise CommandRefused(str(from_wire.failure(answer.failure)))
        return from_wire.variable(answer.value)

    async def set_variable(self, name: str, expression: str, *, frame: int = 0) -> Variable:
        """Binds a variable in a frame to the value of an expression."""
        request = debug_session_pb2.SetVariable(name=name, expression=expression, frame=frame)
        answer = (await self._command(set_variable=request)).variable_set
        if answer.HasField("failure"):
            raise CommandRefused(str(from_wire.failure(answer.failure)))
        return from_wire.variable(answer.variable)

    @property
    def trace(self) -> Trace:
        """Questions about the trace so far."""

        async def ask(query: trace_pb2.TraceQuery) -> trace_pb2.TraceAnswer:
            answer: trace_pb2.TraceAnswer = (await self._command(query_trace=query)).trace_answer
            return answer

        return Trace(ask)

    async def end(self, *, detach: bool = False) -> DebugFinished:
        """Ends the session; the run is cancelled unless it is detached."""
        if self.finished is None:
            number, _ = self._expect()
            await self._write(number, end=debug_session_pb2.EndSession(detach=detach))
        while True:
            outcome = await self.wait()
            if isinstance(outcome, DebugFinished):
                return outcome

    async def _resume(self, mode: str, *, line: int = 0) -> Outcome:
        if self.finished is not None:
            return self.finished
        request = debug_session_pb2.Resume(
            mode=debug_session_pb2.Resume.Mode.Value(f"MODE_{mode}"), line=line
        )
        number, refused = self._expect()
        await self._write(number, resume=request)
        return await self._stop_or_refusal(number, refused)

    async def _stop_or_refusal(self, number: int, refused: asyncio.Future[Any]) -> Outcome:
        stopped = asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait({refused, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if refused.done() and not stopped.done():
                refused.result()
            return await stopped
        finally:
            self._answers.pop(number, None)
            stopped.cancel()

    async def _command(self, **command: Any) -> Any:
        """Sends a command and waits for its answer."""
        number, answer = self._expect()
        await self._write(number, **command)
        try:
            return await answer
        finally:
            self._answers.pop(number, None)

    def _expect(self) -> tuple[int, asyncio.Future[Any]]:
        """The number of the next command, and what its answer will be put into."""
        self._last_command += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[self._last_command] = future
        return self._last_command, future

    async def _write(self, number: int, **command: Any) -> None:
        request = execution_service_pb2.DebugSessionRequest(command_id=number, **command)
        # When the call has ended, the reader puts the reason into the answer.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)

    async def _read(self) -> None:
        """Takes what the server sends, to the end of the call."""
        error: errors.SandboxdError = errors.WrongState("the run has ended")
        try:
            async for answer in self._call:
                self._take(answer)
        except grpc.aio.AioRpcError as failure:
            error = self._transport.error(failure)
        except asyncio.CancelledError:
            error = errors.WrongState("the session was left")
        if self.finished is None:
            self._stops.put_nowait(error)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting any more

    def _take(self, answer: execution_service_pb2.DebugSessionResponse) -> None:
        match answer.WhichOneof("event"):
            case "stopped":
                self._stops.put_nowait(stopped_of(answer.stopped))
            case "finished":
                self.finished = finished(answer.finished)
                self._stops.put_nowait(self.finished)
            case "refused":
                refused = CommandRefused(answer.refused.message, metadata={"reason": answer.refused.reason})
                refused.reason = answer.refused.reason or refused.reason
                self._settle(answer.command_id, error=refused)
            case "breakpoints_set":
                self.breakpoints = tuple(
                    VerifiedBreakpoint(verified=item.verified, line=item.line, message=item.message)
                    for item in answer.breakpoints_set.breakpoints
                )
                if self._last_command > 1:  # those of the start come beside its answer
                    self._settle(answer.command_id, answer)
            case "started" | "evaluated" | "variable_set" | "trace_answer":
                self._settle(answer.command_id, answer)
            case _:
                pass  # output and log come with the next stop as well

    def _settle(self, number: int, answer: Any = None, *, error: Exception | None = None) -> None:
        future = self._answers.get(number)
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)


def _start(sandbox_id: str, code: str, options: SessionOptions) -> debug_session_pb2.StartDebugging:
    pause_timeout = options.get("pause_timeout")
    return debug_session_pb2.StartDebugging(
        request_id=options.get("request_id") or str(uuid4()),
        sandbox_id=sandbox_id,
        code=code,
        options=execution_options(options),
        debug_options=trace_options({"detail": "delta", **options.get("trace", {})}),
        breakpoints=[breakpoint_of(item) for item in options.get("breakpoints", ())],
        exception_breakpoint=exceptions_of(options.get("exceptions", "uncaught")),
        stop_at_entry=options.get("stop_at_entry", False),
        pause_timeout=None if pause_timeout is None else duration(pause_timeout),
        record_trace=options.get("record_trace", True),
    )
