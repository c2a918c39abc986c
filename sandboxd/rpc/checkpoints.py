"""The calls about branches and kept states at the edge."""

import hashlib
import re
from datetime import timedelta

from sandboxd_api.v1 import checkpoint_pb2, sandbox_pb2
from sandboxd_api.v1 import sandbox_service_pb2 as pb

from sandboxd.errors import InvalidArgument
from sandboxd.rpc import paging, requests, responses, sandbox_responses
from sandboxd.rpc.sandbox_requests import Defaults
from sandboxd.sandboxes.branching import MOST_BRANCHES, Branching, StateName
from sandboxd.sandboxes.checkpoints import Checkpoint
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.supervisor.supervisor import Supervisor

_LARGEST_PAGE = 100
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


class CheckpointCalls:
    """Reads requests, makes one call, writes answers. The sandbox has been looked up by its owner."""

    def __init__(self, *, branching: Branching, supervisor: Supervisor, defaults: Defaults) -> None:
        self._branching = branching
        self._supervisor = supervisor
        self._defaults = defaults

    async def fork(self, sandbox: Sandbox, request: pb.ForkSandboxRequest) -> pb.ForkSandboxResponse:
        """Makes branches; a retry with the same request id gets those of the first call."""
        count = request.count or 1
        if not 1 <= count <= MOST_BRANCHES:
            raise InvalidArgument(field="count", problem=f"must be from 1 to {MOST_BRANCHES}")
        idle_timeout = None
        if request.HasField("idle_timeout"):
            idle_timeout = requests.duration(
                request.idle_timeout, "idle_timeout", most=self._defaults.maximum.idle_timeout
            )
        branches = await self._branching.fork_once(
            sandbox,
            count=count,
            checkpoint_id=request.checkpoint_id,
            idle_timeout=idle_timeout,
            request=(requests.request_id(request.request_id), _fingerprint(request, idle_timeout)),
        )
        return pb.ForkSandboxResponse(sandboxes=[self._wire(branch) for branch in branches])

    async def list(self, sandbox: Sandbox, request: pb.ListCheckpointsRequest) -> pb.ListCheckpointsResponse:
        """The kept states, newest first."""
        size = requests.page_size(request.page_size, default=_LARGEST_PAGE, most=_LARGEST_PAGE)
        kept = [entry for entry in sandbox.session.states.ring if entry.alive][::-1]
        page, token = paging.page(kept, size=size, token=request.page_token, key=lambda entry: entry.id)
        sizes = await self._branching.measure(kept)
        return pb.ListCheckpointsResponse(
            checkpoints=[_checkpoint(sandbox, entry, sizes.get(entry.id, 0)) for entry in page],
            next_page_token=token,
            memory_bytes=sum(sizes.values()),
        )

    async def create(
        self, sandbox: Sandbox, request: pb.CreateCheckpointRequest
    ) -> pb.CreateCheckpointResponse:
        """Names the state as it stands."""
        if not _NAME.fullmatch(request.name):
            raise InvalidArgument(
                field="name", problem='is required: 1 to 64 letters, digits, "-", "_" and "."'
            )
        kept = await self._branching.name_state(sandbox, request.name)
        sizes = await self._branching.measure([kept])
        return pb.CreateCheckpointResponse(checkpoint=_checkpoint(sandbox, kept, sizes.get(kept.id, 0)))

    def drop(self, sandbox: Sandbox, request: pb.DropCheckpointRequest) -> pb.DropCheckpointResponse:
        """Forgets a kept state."""
        match request.WhichOneof("target"):
            case "checkpoint_id":
                which = StateName(
                    checkpoint_id=requests.identifier(request.checkpoint_id, "target.checkpoint_id")
                )
            case "checkpoint_name":
                which = StateName(name=requests.identifier(request.checkpoint_name, "target.checkpoint_name"))
            case _:
                raise InvalidArgument(field="target", problem="is required")
        return pb.DropCheckpointResponse(
            checkpoint=_checkpoint(sandbox, self._branching.drop(sandbox, which), 0)
        )

    async def rewind(self, sandbox: Sandbox, request: pb.RewindSandboxRequest) -> pb.RewindSandboxResponse:
        """Makes a kept state the session."""
        done = await self._branching.rewind(sandbox, _rewind_target(request))
        response = pb.RewindSandboxResponse(
            sandbox=self._wire(sandbox), restored=_checkpoint(sandbox, done.restored, 0)
        )
        if done.left is not None:
            response.left.CopyFrom(_checkpoint(sandbox, done.left, 0))
        return response

    def _wire(self, sandbox: Sandbox) -> sandbox_pb2.Sandbox:
        return sandbox_responses.sandbox(sandbox, self._supervisor.grade)


def _rewind_target(request: pb.RewindSandboxRequest) -> StateName:
    match request.WhichOneof("target"):
        case "checkpoint_id":
            return StateName(checkpoint_id=requests.identifier(request.checkpoint_id, "target.checkpoint_id"))
        case "checkpoint_name":
            return StateName(name=requests.identifier(request.checkpoint_name, "target.checkpoint_name"))
        case "before_execution_id":
            before = requests.identifier(request.before_execution_id, "target.before_execution_id")
            return StateName(before_execution_id=before)
        case "before_execution_number":
            if request.before_execution_number < 1:
                raise InvalidArgument(field="target.before_execution_number", problem="must be 1 or more")
            return StateName(before_number=request.before_execution_number)
    raise InvalidArgument(field="target", problem="is required")


def _checkpoint(sandbox: Sandbox, entry: Checkpoint, memory_bytes: int) -> checkpoint_pb2.Checkpoint:
    return checkpoint_pb2.Checkpoint(
        id=entry.id,
        sandbox_id=sandbox.id,
        name=entry.name,
        after_execution_id=entry.after_execution_id,
        after_execution_number=entry.after_execution_number,
        create_time=responses.timestamp(entry.create_time),
        memory_bytes=memory_bytes,
        ahead=entry.ahead,
    )


def _fingerprint(request: pb.ForkSandboxRequest, idle_timeout: timedelta | None) -> bytes:
    parts = (request.sandbox_id, str(request.count or 1), request.checkpoint_id, str(idle_timeout))
    return hashlib.sha256("\0".join(parts).encode()).digest()
