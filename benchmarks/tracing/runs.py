"""Debug runs of a server as its client sees them: what one takes, in steps, seconds and bytes."""

import queue
import time
from collections.abc import Iterator
from typing import Any

from google.protobuf import duration_pb2
from sandboxd_api.v1 import checkpoint_pb2, debug_pb2, execution_pb2, sandbox_service_pb2, trace_pb2
from sandboxd_api.v1 import debug_session_pb2 as session_pb2
from sandboxd_api.v1 import execution_service_pb2 as pb

from benchmarks.tracing.programs import LOOP
from tests.support.serving import Serving, spec_of


def _debug(
    server: Serving, sandbox: str, code: str, detail: int, **more: Any
) -> Iterator[debug_pb2.DebugEvent]:
    options = execution_pb2.ExecutionOptions(timeout=duration_pb2.Duration(seconds=60))
    request = pb.DebugRequest(
        sandbox_id=sandbox,
        code=code,
        options=options,
        debug_options=debug_pb2.DebugOptions(detail=detail, **more),
    )
    for response in server.executions.Debug(request, metadata=server.metadata, timeout=120):
        yield response.event


def streamed(server: Serving, sandbox: str, code: str) -> tuple[int, float, int]:
    """Steps, seconds from request to last event, and bytes of the batches."""
    steps = size = 0
    start = time.perf_counter()
    for event in _debug(server, sandbox, code, debug_pb2.DebugOptions.DETAIL_DELTA):
        if event.WhichOneof("event") == "batch":
            steps += event.batch.columns.step_count
            size += event.batch.ByteSize()
    return steps, time.perf_counter() - start, size


def full(server: Serving, sandbox: str) -> tuple[int, float]:
    """Steps in full detail, and seconds."""
    count = 0
    start = time.perf_counter()
    for event in _debug(server, sandbox, LOOP.format(n=5000), debug_pb2.DebugOptions.DETAIL_FULL):
        count += event.WhichOneof("event") == "step"
    return count, time.perf_counter() - start


def wall(server: Serving, sandbox: str, code: str) -> float:
    """Seconds the program runs, untraced."""
    request = pb.ExecuteRequest(sandbox_id=sandbox, code=code)
    result = server.executions.Execute(request, metadata=server.metadata).execution.result
    assert result.state == execution_pb2.Execution.STATE_SUCCEEDED, result.failure.message
    return float(result.usage.wall_time.ToNanoseconds() / 1e9)


def traced_and_not(
    server: Serving, sandbox: str, code: str, *, pairs: int
) -> tuple[list[float], list[float]]:
    """Seconds of the guest's CPU time that the program takes traced and untraced, in turns after one of each.

    CPU time, since what else runs on the machine disturbs the time on the clock more than tracing does.
    """
    traced, plain = [], []
    for _ in range(pairs + 1):
        request = pb.ExecuteRequest(sandbox_id=sandbox, code=code)
        plain.append(server.executions.Execute(request, metadata=server.metadata).execution.result.usage)
        last = list(_debug(server, sandbox, code, debug_pb2.DebugOptions.DETAIL_SUMMARY))[-1]
        traced.append(last.finished.execution.result.usage)
    return (
        [usage.cpu_time.ToNanoseconds() / 1e9 for usage in traced[1:]],
        [usage.cpu_time.ToNanoseconds() / 1e9 for usage in plain[1:]],
    )


def first_step(server: Serving, sandbox: str) -> float:
    """Seconds from the request to the first steps."""
    start = time.perf_counter()
    call = _debug(server, sandbox, "x = 1\ny = 2\n", debug_pb2.DebugOptions.DETAIL_DELTA)
    elapsed = 0.0
    for event in call:
        if event.WhichOneof("event") == "batch" and not elapsed:
            elapsed = time.perf_counter() - start
    return elapsed


class _Session:
    """An interactive session over a queue of commands."""

    def __init__(self, server: Serving, sandbox: str, code: str, **start: Any) -> None:
        self._commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        options = execution_pb2.ExecutionOptions(timeout=duration_pb2.Duration(seconds=60))
        first = session_pb2.StartDebugging(sandbox_id=sandbox, code=code, options=options, **start)
        self._commands.put(pb.DebugSessionRequest(command_id=1, start=first))
        self.call = server.executions.DebugSession(
            iter(self._commands.get, None), metadata=server.metadata, timeout=120
        )

    def resume(self, mode: int) -> str:
        """Goes on to the next stop or the end."""
        self._commands.put(pb.DebugSessionRequest(command_id=2, resume=session_pb2.Resume(mode=mode)))
        return self.wait()

    def wait(self) -> str:
        """Waits for a stop or the end."""
        for response in self.call:
            kind = response.WhichOneof("event")
            if kind in ("stopped", "finished"):
                return str(kind)
        return "gone"


def interactive(server: Serving, sandbox: str, count: int) -> list[float]:
    """Seconds of each step that a session is asked for."""
    session = _Session(server, sandbox, LOOP.format(n=count), stop_at_entry=True)
    session.wait()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        session.resume(session_pb2.Resume.MODE_STEP_INTO)
        times.append(time.perf_counter() - start)
    session.resume(session_pb2.Resume.MODE_CONTINUE)
    return times


def unhit(server: Serving, sandbox: str) -> float:
    """Seconds the program runs with a breakpoint that is never hit."""
    code = LOOP.format(n=1_000_000) + "if x < 0:\n    never = 1\n"
    session = _Session(
        server, sandbox, code, record_trace=False, breakpoints=[session_pb2.Breakpoint(line=4)]
    )
    for response in session.call:
        if response.WhichOneof("event") == "finished":
            return float(response.finished.execution.result.usage.wall_time.ToNanoseconds() / 1e9)
    raise AssertionError("the session did not finish")


def past(server: Serving, sandbox: str) -> list[float]:
    """Seconds of looking at steps all over a long trace."""
    events = list(_debug(server, sandbox, LOOP.format(n=500_000), debug_pb2.DebugOptions.DETAIL_SUMMARY))
    execution = events[-1].finished.execution.id
    times = []
    for step in range(1000, 1_000_000, 20_011):
        query = trace_pb2.TraceQuery(state_at_step=trace_pb2.TraceQuery.StateAtStep(step=step))
        request = pb.QueryTraceRequest(execution_id=execution, query=query)
        start = time.perf_counter()
        server.executions.QueryTrace(request, metadata=server.metadata)
        times.append(time.perf_counter() - start)
    return times


def sandbox_for_debugging(server: Serving) -> str:
    """Its id. Without checkpoints: what they cost before an execution is measured elsewhere."""
    spec = spec_of(debugging=True, memory_bytes=1 << 30, cpu_percent=100, execution_timeout=120)
    spec.checkpoint_policy.mode = checkpoint_pb2.CheckpointPolicy.MODE_DISABLED
    request = sandbox_service_pb2.CreateSandboxRequest(spec=spec)
    return str(server.sandboxes.CreateSandbox(request, metadata=server.metadata).sandbox.id)
