"""SandboxService at the edge: read the request, make one call, write the answer."""

import asyncio
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import grpc.aio
from sandboxd_api.v1 import capabilities_pb2, sandbox_pb2, sandbox_service_pb2_grpc
from sandboxd_api.v1 import sandbox_service_pb2 as pb

from sandboxd.accounts.principals import acting_user
from sandboxd.catalog.examples import EXAMPLES
from sandboxd.catalog.functions import FUNCTIONS, FunctionDescription
from sandboxd.catalog.templates import TEMPLATES
from sandboxd.errors import InvalidArgument, SandboxBusy
from sandboxd.rpc import paging, requests, responses, sandbox_requests, sandbox_responses
from sandboxd.rpc.authentication import current_caller
from sandboxd.rpc.checkpoints import CheckpointCalls
from sandboxd.rpc.large import built, size_of
from sandboxd.rpc.sandbox_requests import Defaults
from sandboxd.rpc.sizes import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES
from sandboxd.rpc.statistics import StatisticsSource
from sandboxd.sandboxes import records
from sandboxd.sandboxes.model import SandboxSpec, SandboxState
from sandboxd.sandboxes.registry import SandboxRegistry
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.store.records import SandboxRecord
from sandboxd.store.sandboxes import SandboxFilter
from sandboxd.supervisor.supervisor import Supervisor

_Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_PAGE = 50
_LARGEST_PAGE = 500
_DEFAULT_VARIABLES = 200
_MOST_VARIABLES = 10_000
_STATE_WAIT_SECONDS = 10.0
_MISSING_DETAIL = "not available here; `sandboxd doctor` on the server's machine says why"
"""The error itself may name a path of the host."""


class SandboxServicer(sandbox_service_pb2_grpc.SandboxServiceServicer):
    """Translates; decides nothing that is not about the wire."""

    def __init__(
        self,
        *,
        registry: SandboxRegistry,
        supervisor: Supervisor,
        defaults: Defaults,
        statistics: StatisticsSource,
        checkpoints: CheckpointCalls,
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._defaults = defaults
        self._statistics = statistics
        self._checkpoints = checkpoints

    async def CreateSandbox(
        self, request: pb.CreateSandboxRequest, context: _Context
    ) -> pb.CreateSandboxResponse:
        request_id = requests.request_id(request.request_id)
        caller = current_caller()
        user_id = acting_user(caller, requests.user_id(request.user_id))
        spec = sandbox_requests.spec(request.spec, self._defaults)
        sandbox = await self._registry.create(
            owner=caller.name, user_id=user_id, spec=spec, request_id=request_id
        )
        return pb.CreateSandboxResponse(sandbox=self._wire(sandbox))

    async def GetSandbox(self, request: pb.GetSandboxRequest, context: _Context) -> pb.GetSandboxResponse:
        return pb.GetSandboxResponse(sandbox=self._wire(await self._find_any(request.sandbox_id)))

    async def ListSandboxes(
        self, request: pb.ListSandboxesRequest, context: _Context
    ) -> pb.ListSandboxesResponse:
        size = requests.page_size(request.page_size, default=_DEFAULT_PAGE, most=_LARGEST_PAGE)
        names = [
            sandbox_pb2.Sandbox.State.Name(
                requests.known_enum(value, sandbox_pb2.Sandbox.State, "states")
            ).removeprefix("STATE_")
            for value in request.states
        ]
        states = [SandboxState(name) for name in names if name in SandboxState.__members__]
        wanted = SandboxFilter(
            owner=current_caller().visible_owner,
            user_id=request.user_id or None,
            states=records.stored_states(states or [SandboxState.ACTIVE]),
        )
        page, token = await self._registry.list_recorded(
            wanted, page_size=size, page_token=request.page_token
        )
        return pb.ListSandboxesResponse(
            sandboxes=[self._wire(sandbox) for sandbox in page], next_page_token=token
        )

    async def DeleteSandbox(
        self, request: pb.DeleteSandboxRequest, context: _Context
    ) -> pb.DeleteSandboxResponse:
        sandbox = await self._find_any(request.sandbox_id)
        if isinstance(sandbox, Sandbox):
            await asyncio.shield(self._registry.remove(sandbox, SandboxState.DELETED))
        return pb.DeleteSandboxResponse(sandbox=self._wire(sandbox))

    async def GetSandboxState(
        self, request: pb.GetSandboxStateRequest, context: _Context
    ) -> pb.GetSandboxStateResponse:
        sandbox = self._find(request.sandbox_id)
        limit = _variable_limit(request)
        try:
            async with asyncio.timeout(_STATE_WAIT_SECONDS):
                await sandbox.turn.acquire()
        except TimeoutError:
            raise SandboxBusy() from None
        try:
            sandbox.require_active()
            sandbox.touch()
            report = await sandbox.inspect(variable_limit=limit)
        finally:
            sandbox.turn.release()
        shown = report.variables[:limit]
        response = pb.GetSandboxStateResponse(
            sandbox=self._wire(sandbox),
            total_variable_count=max(report.total_count, 0) % 2**31,
            live_thread_count=max(report.live_threads, 0) % 2**31,
            memory_bytes=sandbox.used_memory_bytes(),
        )

        def fill() -> None:
            for item in shown:
                responses.fill_variable(response.variables.add(), item)

        await built(fill, size=size_of(shown))
        return response

    async def ForkSandbox(self, request: pb.ForkSandboxRequest, context: _Context) -> pb.ForkSandboxResponse:
        return await self._checkpoints.fork(self._find(request.sandbox_id), request)

    async def ListCheckpoints(
        self, request: pb.ListCheckpointsRequest, context: _Context
    ) -> pb.ListCheckpointsResponse:
        return await self._checkpoints.list(self._find(request.sandbox_id), request)

    async def CreateCheckpoint(
        self, request: pb.CreateCheckpointRequest, context: _Context
    ) -> pb.CreateCheckpointResponse:
        return await self._checkpoints.create(self._find(request.sandbox_id), request)

    async def DropCheckpoint(
        self, request: pb.DropCheckpointRequest, context: _Context
    ) -> pb.DropCheckpointResponse:
        return self._checkpoints.drop(self._find(request.sandbox_id), request)

    async def RewindSandbox(
        self, request: pb.RewindSandboxRequest, context: _Context
    ) -> pb.RewindSandboxResponse:
        return await self._checkpoints.rewind(self._find(request.sandbox_id), request)

    async def GetStatistics(
        self, request: pb.GetStatisticsRequest, context: _Context
    ) -> pb.GetStatisticsResponse:
        return pb.GetStatisticsResponse(statistics=await self._statistics.answer(request, current_caller()))

    async def GetCapabilities(
        self, request: pb.GetCapabilitiesRequest, context: _Context
    ) -> pb.GetCapabilitiesResponse:
        return pb.GetCapabilitiesResponse(capabilities=self._capabilities())

    async def ListFunctions(
        self, request: pb.ListFunctionsRequest, context: _Context
    ) -> pb.ListFunctionsResponse:
        spec = self._spec_of(request.sandbox_id)
        size = requests.page_size(request.page_size, default=_DEFAULT_PAGE, most=_LARGEST_PAGE)
        page, token = paging.page(FUNCTIONS, size=size, token=request.page_token, key=lambda item: item.name)
        policy = spec.policy
        return pb.ListFunctionsResponse(
            functions=[_function(item, spec) for item in page],
            next_page_token=token,
            allowed_modules=policy.allowed_modules if policy.restricted else [],
            blocked_builtins=policy.blocked_builtins if policy.restricted else [],
        )

    async def ListExamples(
        self, request: pb.ListExamplesRequest, context: _Context
    ) -> pb.ListExamplesResponse:
        self._spec_of(request.sandbox_id)
        size = requests.page_size(request.page_size, default=_DEFAULT_PAGE, most=_LARGEST_PAGE)
        page, token = paging.page(EXAMPLES, size=size, token=request.page_token, key=lambda item: item.name)
        examples = [
            sandbox_pb2.CodeExample(
                name=item.name,
                title=item.title,
                description=item.description,
                code=item.code,
                requires_database=item.needs_database,
            )
            for item in page
        ]
        return pb.ListExamplesResponse(examples=examples, next_page_token=token)

    async def CreateProcessorTemplate(
        self, request: pb.CreateProcessorTemplateRequest, context: _Context
    ) -> pb.CreateProcessorTemplateResponse:
        self._spec_of(request.sandbox_id)
        for template in TEMPLATES:
            if template.name == request.name:
                message = sandbox_pb2.ProcessorTemplate(
                    name=template.name, description=template.description, code=template.code
                )
                return pb.CreateProcessorTemplateResponse(template=message)
        known = ", ".join(template.name for template in TEMPLATES)
        raise InvalidArgument(field="name", problem=f"no template of that name; known: {known}")

    # --- shared ----------------------------------------------------------------------------------

    def _find(self, sandbox_id: str) -> Sandbox:
        sandbox_id = requests.identifier(sandbox_id, "sandbox_id")
        return self._registry.get(owner=current_caller().visible_owner, sandbox_id=sandbox_id)

    def _spec_of(self, sandbox_id: str) -> SandboxSpec:
        """What a sandbox was made with; without an id, what one gets that asks for nothing."""
        if sandbox_id:
            return self._find(sandbox_id).spec
        return sandbox_requests.spec(sandbox_pb2.SandboxSpec(), self._defaults)

    async def _find_any(self, sandbox_id: str) -> Sandbox | SandboxRecord:
        """An ended one too, while its record is kept."""
        sandbox_id = requests.identifier(sandbox_id, "sandbox_id")
        return await self._registry.find(owner=current_caller().visible_owner, sandbox_id=sandbox_id)

    def _wire(self, sandbox: Sandbox | SandboxRecord) -> sandbox_pb2.Sandbox:
        if isinstance(sandbox, Sandbox):
            return sandbox_responses.sandbox(sandbox, self._supervisor.grade)
        return sandbox_responses.ended_sandbox(sandbox)

    def _capabilities(self) -> capabilities_pb2.Capabilities:
        layer_states = capabilities_pb2.IsolationLayer
        layers = [
            capabilities_pb2.IsolationLayer(
                name=layer.name,
                state=layer_states.STATE_ACTIVE if layer.available else layer_states.STATE_MISSING,
                detail=layer.detail if layer.available else _MISSING_DETAIL,
                remedy=layer.fix,
            )
            for layer in self._supervisor.layers
        ]
        return capabilities_pb2.Capabilities(
            isolation_grade=sandbox_responses.grade(self._supervisor.grade),
            isolation_layers=layers,
            default_limits=sandbox_responses.limits(self._defaults.limits),
            maximum_limits=sandbox_responses.limits(self._defaults.maximum),
            versions=_versions(self._supervisor),
            default_language_policy=sandbox_pb2.LanguagePolicy(
                mode=sandbox_pb2.LanguagePolicy.MODE_RESTRICTED,
                allowed_modules=self._defaults.allowed_modules,
            ),
            unrestricted_allowed=True,
            databases=sorted(self._defaults.databases),
            checkpoints=not self._supervisor.checkpoints_missing,
            checkpoints_missing_reason=self._supervisor.checkpoints_missing,
            maximum_request_bytes=MAX_REQUEST_BYTES,
            maximum_response_bytes=MAX_RESPONSE_BYTES,
        )


def _versions(supervisor: Supervisor) -> Sequence[capabilities_pb2.ComponentVersion]:
    pairs = {
        "sandboxd": importlib.metadata.version("sandboxd"),
        "python": supervisor.python_version,
        **supervisor.packages,
    }
    return [capabilities_pb2.ComponentVersion(name=name, version=text) for name, text in pairs.items()]


def _function(item: FunctionDescription, spec: SandboxSpec) -> sandbox_pb2.GuestFunction:
    return sandbox_pb2.GuestFunction(
        name=item.name,
        signature=item.signature,
        description=item.description,
        example=item.example,
        category=item.category,
        awaitable=item.awaitable,
        available=bool(spec.database_grants) if item.needs_database else True,
    )


def _variable_limit(request: pb.GetSandboxStateRequest) -> int:
    if not request.HasField("max_variables"):
        return _DEFAULT_VARIABLES
    if not 1 <= request.max_variables <= _MOST_VARIABLES:
        raise InvalidArgument(
            field="max_variables",
            problem=f"must be from 1 to {_MOST_VARIABLES}; {request.max_variables} was sent",
        )
    return int(request.max_variables)
