"""The same client for programs without an event loop: every method blocks; the work is the async client's.

from sandboxd_client.sync import Client

with Client.connect() as client, client.create_sandbox() as sandbox:
    print(sandbox.execute("1 + 1").result)
"""

from types import TracebackType
from typing import Self, Unpack

from sandboxd_client import client as async_client
from sandboxd_client import credentials
from sandboxd_client import debug_session as async_session
from sandboxd_client import sandbox as async_sandbox
from sandboxd_client import traces as async_traces
from sandboxd_client.debug_session import SessionOptions
from sandboxd_client.debug_stops import VerifiedBreakpoint
from sandboxd_client.debugging import DebugFinished
from sandboxd_client.info import SandboxInfo
from sandboxd_client.portal import PORTAL, Blocking, blocking, blocking_as, blocking_iterator
from sandboxd_client.transport import Retry


def _wrap(found: async_sandbox.Sandbox) -> "Sandbox":
    return Sandbox(found)


def _wrap_all(found: list[async_sandbox.Sandbox]) -> "list[Sandbox]":
    return [Sandbox(branch) for branch in found]


class Sandbox(Blocking[async_sandbox.Sandbox]):
    """An isolated Python session. As a context it deletes itself at the end."""

    @property
    def id(self) -> str:
        """Its id."""
        return self._inner.id

    @property
    def info(self) -> SandboxInfo:
        """What the server last told of it; `refresh` asks again."""
        return self._inner.info

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        PORTAL.run(self._inner.__aexit__(kind, error, trace))

    execute = blocking(async_sandbox.Sandbox.execute)
    stream = blocking_iterator(async_sandbox.Sandbox.stream)
    refresh = blocking(async_sandbox.Sandbox.refresh)
    state = blocking(async_sandbox.Sandbox.state)
    delete = blocking(async_sandbox.Sandbox.delete)
    cancel = blocking(async_sandbox.Sandbox.cancel)
    history = blocking(async_sandbox.Sandbox.history)
    functions = blocking(async_sandbox.Sandbox.functions)
    examples = blocking(async_sandbox.Sandbox.examples)
    create_processor_template = blocking(async_sandbox.Sandbox.create_processor_template)
    branch = blocking_as(async_sandbox.Sandbox.branch, _wrap)
    branches = blocking_as(async_sandbox.Sandbox.branches, _wrap_all)
    best_of = blocking(async_sandbox.Sandbox.best_of)
    checkpoint = blocking(async_sandbox.Sandbox.checkpoint)
    checkpoints = blocking(async_sandbox.Sandbox.checkpoints)
    drop_checkpoint = blocking(async_sandbox.Sandbox.drop_checkpoint)
    rewind = blocking(async_sandbox.Sandbox.rewind)
    query = blocking(async_sandbox.Sandbox.query)
    schema = blocking(async_sandbox.Sandbox.schema)
    audit = blocking(async_sandbox.Sandbox.audit)
    debug = blocking_iterator(async_sandbox.Sandbox.debug)

    def debug_session(self, code: str, **options: Unpack[SessionOptions]) -> "DebugSession":
        """An interactive session: `with sandbox.debug_session(code, breakpoints=[3]) as session`."""
        return DebugSession(self._inner.debug_session(code, **options))


class Trace(Blocking[async_traces.Trace]):
    """A recorded trace."""

    state_at = blocking(async_traces.Trace.state_at)
    when_changed = blocking(async_traces.Trace.when_changed)
    last_write = blocking(async_traces.Trace.last_write)
    first_where = blocking(async_traces.Trace.first_where)
    calls = blocking(async_traces.Trace.calls)
    lines_not_reached = blocking(async_traces.Trace.lines_not_reached)
    loop = blocking(async_traces.Trace.loop)
    text = blocking(async_traces.Trace.text)
    failure_report = blocking(async_traces.Trace.failure_report)


class DebugSession(Blocking[async_session.DebugSession]):
    """An interactive debug session; leaving it ends the run."""

    def __enter__(self) -> Self:
        PORTAL.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        PORTAL.run(self._inner.__aexit__(kind, error, trace))

    @property
    def execution_id(self) -> str:
        """The execution."""
        return self._inner.execution_id

    @property
    def executable_lines(self) -> tuple[int, ...]:
        """Lines where breakpoints can be."""
        return self._inner.executable_lines

    @property
    def breakpoints(self) -> tuple[VerifiedBreakpoint, ...]:
        """What became of the breakpoints."""
        return self._inner.breakpoints

    @property
    def finished(self) -> DebugFinished | None:
        """Set when the run has ended."""
        return self._inner.finished

    @property
    def trace(self) -> Trace:
        """Questions about the trace so far."""
        return Trace(self._inner.trace)

    wait = blocking(async_session.DebugSession.wait)
    resume = blocking(async_session.DebugSession.resume)
    step_over = blocking(async_session.DebugSession.step_over)
    step_into = blocking(async_session.DebugSession.step_into)
    step_out = blocking(async_session.DebugSession.step_out)
    run_to = blocking(async_session.DebugSession.run_to)
    step_back = blocking(async_session.DebugSession.step_back)
    reverse = blocking(async_session.DebugSession.reverse)
    pause = blocking(async_session.DebugSession.pause)
    set_breakpoints = blocking(async_session.DebugSession.set_breakpoints)
    evaluate = blocking(async_session.DebugSession.evaluate)
    set_variable = blocking(async_session.DebugSession.set_variable)
    end = blocking(async_session.DebugSession.end)


class Client(Blocking[async_client.Client]):
    """A connection to a server: `with Client.connect() as client`. May be used from any thread."""

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
        """A client of the server at `address`; see the async client's `connect`."""
        return cls(async_client.Client.connect(address, token=token, tls=tls, retry=retry, deadline=deadline))

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._inner.address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        PORTAL.run(self._inner.close())

    close = blocking(async_client.Client.close)
    wait_until_ready = blocking(async_client.Client.wait_until_ready)
    create_sandbox = blocking_as(async_client.Client.create_sandbox, Sandbox)
    get_sandbox = blocking_as(async_client.Client.get_sandbox, Sandbox)
    list_sandboxes = blocking(async_client.Client.list_sandboxes)
    quick_execute = blocking(async_client.Client.quick_execute)
    analyze_data = blocking(async_client.Client.analyze_data)
    get_execution = blocking(async_client.Client.get_execution)
    history = blocking(async_client.Client.history)

    def trace(self, execution_id: str) -> Trace:
        """The trace that a debug run recorded."""
        return Trace(self._inner.trace(execution_id))

    watch = blocking_iterator(async_client.Client.watch)
    cancel = blocking(async_client.Client.cancel)
    statistics = blocking(async_client.Client.statistics)
    capabilities = blocking(async_client.Client.capabilities)
    functions = blocking(async_client.Client.functions)
    examples = blocking(async_client.Client.examples)
    create_processor_template = blocking(async_client.Client.create_processor_template)
