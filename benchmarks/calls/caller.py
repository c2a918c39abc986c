"""The calls that are timed, on a connection of their own; each checks that its answer is right."""

import grpc
import grpc.aio
from sandboxd_api.v1 import execution_service_pb2 as executions_pb2
from sandboxd_api.v1 import execution_service_pb2_grpc, sandbox_pb2, sandbox_service_pb2_grpc
from sandboxd_api.v1 import sandbox_service_pb2 as sandboxes_pb2

CODE = "print(1+1)"
"""What each execution runs."""


class Caller:
    """Stubs on one connection."""

    def __init__(self, target: str, token: str) -> None:
        self.channel = grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.executions = execution_service_pb2_grpc.ExecutionServiceStub(self.channel)
        self.sandboxes = sandbox_service_pb2_grpc.SandboxServiceStub(self.channel)

    async def create(self) -> str:
        """A sandbox's id."""
        made = await self.sandboxes.CreateSandbox(
            sandboxes_pb2.CreateSandboxRequest(), metadata=self.metadata
        )
        return str(made.sandbox.id)

    async def delete(self, sandbox: str) -> None:
        """Removes it."""
        await self.sandboxes.DeleteSandbox(
            sandboxes_pb2.DeleteSandboxRequest(sandbox_id=sandbox), metadata=self.metadata
        )

    async def run(self, sandbox: str) -> None:
        """One execution in a session."""
        request = executions_pb2.ExecuteRequest(sandbox_id=sandbox, code=CODE)
        answer = await self.executions.Execute(request, metadata=self.metadata)
        assert answer.execution.result.stdout.data == b"2\n"

    async def quick(self, *, cold: bool = False) -> None:
        """One execution in a sandbox of its own; `cold` asks for a size that is not kept ready."""
        request = executions_pb2.QuickExecuteRequest(code=CODE)
        if cold:
            request.spec.limits.CopyFrom(sandbox_pb2.Limits(memory_bytes=255 << 20))
        answer = await self.executions.QuickExecute(request, metadata=self.metadata)
        assert answer.execution.result.stdout.data == b"2\n"
