"""Lists of the server, read page by page to the end or to a limit."""

from collections.abc import Sequence

from sandboxd_api.v1 import execution_service_pb2, sandbox_pb2, sandbox_service_pb2

from sandboxd_client import info, info_from_wire
from sandboxd_client.from_wire import STATE_OF_STATUS, execution_of
from sandboxd_client.options import word_of
from sandboxd_client.results import Execution
from sandboxd_client.transport import Transport

_PAGE = 500


async def executions(
    transport: Transport,
    *,
    sandbox_id: str = "",
    user_id: str = "",
    limit: int = 50,
    statuses: Sequence[str] = (),
    full: bool = False,
) -> list[Execution]:
    """Executions, newest first."""
    view = execution_service_pb2.EXECUTION_VIEW_FULL if full else execution_service_pb2.EXECUTION_VIEW_BASIC
    words = tuple(STATE_OF_STATUS)
    for status in statuses:
        word_of(status, words, field="statuses")
    found: list[Execution] = []
    token = ""
    while len(found) < limit:
        request = execution_service_pb2.ListExecutionsRequest(
            sandbox_id=sandbox_id,
            user_id=user_id,
            states=[state for status, state in STATE_OF_STATUS.items() if status in statuses],
            view=view,
            page_size=min(limit - len(found), _PAGE),
            page_token=token,
        )
        page = await transport.call(transport.executions.ListExecutions, request)
        found += [execution_of(item) for item in page.executions]
        token = page.next_page_token
        if not token:
            break
    return found[:limit]


async def sandboxes(
    transport: Transport, *, user_id: str = "", states: Sequence[str] = (), limit: int = 50
) -> list[info.SandboxInfo]:
    """Sandboxes, newest first; only active ones unless `states` says otherwise."""
    wanted = [
        sandbox_pb2.Sandbox.State.Value(
            "STATE_" + word_of(state, ("active", "deleted", "expired", "aborted"), field="states")
        )
        for state in states
    ]
    found: list[info.SandboxInfo] = []
    token = ""
    while len(found) < limit:
        request = sandbox_service_pb2.ListSandboxesRequest(
            user_id=user_id, states=wanted, page_size=min(limit - len(found), _PAGE), page_token=token
        )
        page = await transport.call(transport.sandboxes.ListSandboxes, request)
        found += [info_from_wire.sandbox(item) for item in page.sandboxes]
        token = page.next_page_token
        if not token:
            break
    return found[:limit]


async def checkpoints(transport: Transport, *, sandbox_id: str) -> list[info.Checkpoint]:
    """The states of a session that are kept, newest first."""
    found: list[info.Checkpoint] = []
    token = ""
    while True:
        request = sandbox_service_pb2.ListCheckpointsRequest(sandbox_id=sandbox_id, page_token=token)
        page = await transport.call(transport.sandboxes.ListCheckpoints, request)
        found += [info_from_wire.checkpoint(item) for item in page.checkpoints]
        token = page.next_page_token
        if not token:
            return found


async def guest_api(transport: Transport, *, sandbox_id: str = "") -> info.GuestApi:
    """What user code finds in its namespace and what it may import."""
    functions: list[info.GuestFunction] = []
    token = ""
    while True:
        request = sandbox_service_pb2.ListFunctionsRequest(sandbox_id=sandbox_id, page_token=token)
        page = await transport.call(transport.sandboxes.ListFunctions, request)
        functions += [info_from_wire.guest_function(item) for item in page.functions]
        token = page.next_page_token
        if not token:
            return info.GuestApi(
                functions=tuple(functions),
                allowed_modules=tuple(page.allowed_modules),
                blocked_builtins=tuple(page.blocked_builtins),
            )


async def examples(transport: Transport, *, sandbox_id: str = "") -> list[info.CodeExample]:
    """Pieces of code that run in a sandbox as they are."""
    found: list[info.CodeExample] = []
    token = ""
    while True:
        request = sandbox_service_pb2.ListExamplesRequest(sandbox_id=sandbox_id, page_token=token)
        page = await transport.call(transport.sandboxes.ListExamples, request)
        found += [info_from_wire.code_example(item) for item in page.examples]
        token = page.next_page_token
        if not token:
            return found


async def processor_template(transport: Transport, name: str, *, sandbox_id: str = "") -> str:
    """Code to start a processor of a data pipeline from."""
    request = sandbox_service_pb2.CreateProcessorTemplateRequest(sandbox_id=sandbox_id, name=name)
    answer = await transport.call(transport.sandboxes.CreateProcessorTemplate, request)
    return answer.template.code
