"""One sandbox for tests of sessions, in as few words as they read: run, branch, rewind, name, list."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import grpc
from sandboxd_api.v1 import checkpoint_pb2, execution_pb2
from sandboxd_api.v1 import execution_service_pb2 as execution_service
from sandboxd_api.v1 import sandbox_service_pb2 as sandbox_service

from tests.support.leftovers import wait_until
from tests.support.serving import Answer, Serving, duration, spec_of

POLICY = checkpoint_pb2.CheckpointPolicy

CRASHES = {
    "segfault": "import ctypes; ctypes.string_at(0)",
    "exit": "import os; os._exit(3)",
    "abort": "import os; os.abort()",
    "forbidden call": "import ctypes; ctypes.CDLL(None).syscall(165, 0, 0, 0, 0, 0)",
    "closed channel": "import os; os.close(3)\nwhile True: pass",
}
"""Programs that end the process of their session, by how."""


class Sandbox:
    """A sandbox on a server; every call waits for its answer."""

    def __init__(self, server: Serving, sandbox_id: str) -> None:
        self.server = server
        self.id = sandbox_id

    def run(self, code: str, *, seconds: float | None = None, rollback: bool = False, **more: Any) -> Answer:
        """Executes code."""
        return Answer(self.execute(code, seconds=seconds, rollback=rollback, **more))

    def execute(
        self, code: str, *, seconds: float | None = None, rollback: bool = False, request_id: str = ""
    ) -> execution_pb2.Execution:
        """Executes code; the execution as it came."""
        options = execution_pb2.ExecutionOptions(
            rollback_on_error=rollback, timeout=None if seconds is None else duration(seconds)
        )
        request = execution_service.ExecuteRequest(
            sandbox_id=self.id, code=code, options=options, request_id=request_id
        )
        call = self.server.executions.Execute
        return call(request, metadata=self.server.metadata, timeout=60).execution

    def value(self, expression: str, *, prepare: str = "") -> Any:
        """The value of an expression that JSON can carry. Reading changes nothing but the history."""
        answer = self.run(f"{prepare}\nimport json\nprint(json.dumps({expression}))")
        assert answer.state == "SUCCEEDED", answer.describe()
        return json.loads(answer.stdout)

    def branches(
        self,
        count: int = 1,
        *,
        checkpoint_id: str = "",
        request_id: str = "",
        idle_seconds: float | None = None,
    ) -> list["Sandbox"]:
        """Branches of this sandbox."""
        request = sandbox_service.ForkSandboxRequest(
            sandbox_id=self.id,
            count=count,
            checkpoint_id=checkpoint_id,
            request_id=request_id,
            idle_timeout=None if idle_seconds is None else duration(idle_seconds),
        )
        made = self.server.sandboxes.ForkSandbox(request, metadata=self.server.metadata, timeout=60)
        return [Sandbox(self.server, sandbox.id) for sandbox in made.sandboxes]

    def rewind(self, **target: Any) -> sandbox_service.RewindSandboxResponse:
        """Makes a kept state the session."""
        request = sandbox_service.RewindSandboxRequest(sandbox_id=self.id, **target)
        return self.server.sandboxes.RewindSandbox(request, metadata=self.server.metadata, timeout=60)

    def name(self, name: str) -> checkpoint_pb2.Checkpoint:
        """Names the state as it stands."""
        request = sandbox_service.CreateCheckpointRequest(sandbox_id=self.id, name=name)
        call = self.server.sandboxes.CreateCheckpoint
        return call(request, metadata=self.server.metadata, timeout=60).checkpoint

    def drop(self, **target: str) -> None:
        """Drops a kept state."""
        request = sandbox_service.DropCheckpointRequest(sandbox_id=self.id, **target)
        self.server.sandboxes.DropCheckpoint(request, metadata=self.server.metadata, timeout=60)

    def checkpoints(self) -> list[checkpoint_pb2.Checkpoint]:
        """The kept states, newest first, once none is in the making."""
        self.settled()
        request = sandbox_service.ListCheckpointsRequest(sandbox_id=self.id)
        answer = self.server.sandboxes.ListCheckpoints(request, metadata=self.server.metadata, timeout=60)
        return list(answer.checkpoints)

    def settled(self) -> None:
        """Waits until the state after the last execution is kept, by asking for the session's turn."""
        request = sandbox_service.GetSandboxStateRequest(sandbox_id=self.id)
        self.server.sandboxes.GetSandboxState(request, metadata=self.server.metadata, timeout=60)

    def describe(self) -> Any:
        """The sandbox as the server tells it, settled."""
        self.settled()
        return self._get()

    def running(self) -> str:
        """Id of the execution that runs; empty when none does."""
        return str(self._get().running_execution_id)

    def _get(self) -> Any:
        request = sandbox_service.GetSandboxRequest(sandbox_id=self.id)
        answer = self.server.sandboxes.GetSandbox(request, metadata=self.server.metadata, timeout=60)
        return answer.sandbox

    def delete(self) -> None:
        """Deletes it."""
        self.server.delete(self.id)


@contextlib.contextmanager
def sandbox(
    server: Serving,
    *,
    history: int | None = None,
    memory_bytes: int | None = None,
    limits_memory: int | None = None,
    checkpoints: bool = True,
    **limits: Any,
) -> Iterator[Sandbox]:
    """A sandbox that is deleted afterwards."""
    if limits_memory is not None:
        limits["memory_bytes"] = limits_memory
    spec = spec_of(**limits)
    if history is not None:
        spec.checkpoint_policy.history_count = history
    if memory_bytes is not None:
        spec.checkpoint_policy.memory_bytes = memory_bytes
    spec.checkpoint_policy.mode = POLICY.MODE_AUTOMATIC if checkpoints else POLICY.MODE_DISABLED
    request = sandbox_service.CreateSandboxRequest(spec=spec)
    made = server.sandboxes.CreateSandbox(request, metadata=server.metadata, timeout=30).sandbox
    one = Sandbox(server, made.id)
    try:
        yield one
    finally:
        with contextlib.suppress(grpc.RpcError):
            one.delete()


def skip_reason(answer: Answer) -> str:
    """Why the state before an execution was not kept; UNSPECIFIED when it was."""
    report = answer.result.session.checkpoint
    name = str(checkpoint_pb2.CheckpointReport.SkipReason.Name(report.skip_reason))
    return name.removeprefix("SKIP_REASON_")


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Code and text of a refused call."""
    return error.code(), error.details()


__all__ = ["CRASHES", "POLICY", "Sandbox", "refusal", "sandbox", "skip_reason", "wait_until"]


def warm_up(server: Serving) -> None:
    """Does everything for the first time: what stays open from then on is no leak."""
    with sandbox(server) as one:
        one.run("x = 1")
        one.run(CRASHES["exit"])
