"""The same client for programs without an event loop: every method blocks; the work is the async client's.

from sandboxd_client.sync import Client

with Client.connect() as client, client.create_sandbox() as sandbox:
    print(sandbox.execute("1 + 1").result)
"""

from types import TracebackType
from typing import Self

from sandboxd_client import client as async_client
from sandboxd_client import credentials
from sandboxd_client import sandbox as async_sandbox
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
    watch = blocking_iterator(async_client.Client.watch)
    cancel = blocking(async_client.Client.cancel)
    statistics = blocking(async_client.Client.statistics)
    capabilities = blocking(async_client.Client.capabilities)
    functions = blocking(async_client.Client.functions)
    examples = blocking(async_client.Client.examples)
    create_processor_template = blocking(async_client.Client.create_processor_template)
