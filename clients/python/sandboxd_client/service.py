"""A service object whose methods and arguments are those agents know from in-process sandbox services.

Sandboxes go by their ids here, configurations and answers are plain dicts. For new programs `Client` and
`Sandbox` say more and are checked by type checkers.
"""

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from sandboxd_client import service_answers
from sandboxd_client.client import Analysis, Client, QuickOptions
from sandboxd_client.credentials import Tls
from sandboxd_client.debugging import TraceOptions
from sandboxd_client.options import CallOptions
from sandboxd_client.queries import QueryResult
from sandboxd_client.results import ExecutionResult
from sandboxd_client.sandbox import Sandbox
from sandboxd_client.service_config import create_options


class SandboxService:
    """`service = await SandboxService.connect()`; `await service.close()`, or `async with service`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sandboxes: dict[str, Sandbox] = {}

    @classmethod
    async def connect(
        cls, address: str | None = None, *, token: str | None = None, tls: Tls | None = None
    ) -> Self:
        """A service over the server at `address`, found as `Client.connect` finds it."""
        return cls(Client.connect(address, token=token, tls=tls))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. Sandboxes stay until they are cleaned up or expire."""
        await self._client.close()

    async def create_agent_sandbox(
        self, user_id: int | str | None = None, config: Mapping[str, Any] | None = None
    ) -> str:
        """The id of a new sandbox. Keys of `config`: see `service_config`; unknown ones are refused."""
        options = create_options(config or {})
        if user_id is not None:
            options["user_id"] = user_id
        sandbox = await self._client.create_sandbox(**options)
        self._sandboxes[sandbox.id] = sandbox
        return sandbox.id

    async def cleanup_sandbox(self, sandbox_id: str) -> bool:
        """Deletes a sandbox: its processes, files and checkpoints. True when it is gone."""
        sandbox = await self._sandbox(sandbox_id)
        await sandbox.delete()
        self._sandboxes.pop(sandbox_id, None)
        return True

    async def execute_code(
        self, sandbox_id: str, code: str, **options: Unpack[CallOptions]
    ) -> ExecutionResult:
        """Runs `code`; a failure of the code is in the result, never raised."""
        return await (await self._sandbox(sandbox_id)).execute(code, **options)

    async def debug_code(
        self, sandbox_id: str, code: str, trace: TraceOptions | None = None, **options: Unpack[CallOptions]
    ) -> AsyncIterator[dict[str, Any]]:
        """Runs `code` and gives each step as a dict with `line_number`, `line_code`, `result`, `state`.

        `state['variables']` holds the variables before the line runs. `result.status` is `running` until
        the last dict, with the event `finished`, whose `result` is that of the whole run.
        """
        sandbox = await self._sandbox(sandbox_id)
        async for step in service_answers.debug_steps(sandbox.debug(code, trace, **options)):
            yield step

    async def query_database(
        self,
        sandbox_id: str,
        query: str,
        params: Mapping[str, object] | None = None,
        *,
        database: str = "",
    ) -> QueryResult:
        """The rows of one statement with `:name` parameters, as dicts."""
        return await (await self._sandbox(sandbox_id)).query(query, params, database=database)

    async def get_database_schema(self, sandbox_id: str, *, database: str = "") -> dict[str, Any]:
        """`database`, `dialect` and `tables`: a dict of tables by name, with columns and keys."""
        schema = await (await self._sandbox(sandbox_id)).schema(database=database)
        return {"database": schema.database, "dialect": schema.dialect, "tables": dict(schema.tables)}

    async def get_sandbox_status(self, sandbox_id: str) -> dict[str, Any]:
        """Where a sandbox stands, without looking into its session."""
        return service_answers.status(await (await self._sandbox(sandbox_id)).refresh())

    async def get_sandbox_state(self, sandbox_id: str) -> dict[str, Any]:
        """Where a sandbox stands, its `variables` by name, and what it uses."""
        return service_answers.state(await (await self._sandbox(sandbox_id)).state())

    async def get_execution_history(
        self, sandbox_id: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Executions of one sandbox or of all, newest first, with `execution_id`, `status` and more."""
        if sandbox_id is None:
            return [service_answers.execution(item) for item in await self._client.history(limit=limit)]
        history = await (await self._sandbox(sandbox_id)).history(limit=limit)
        return [service_answers.execution(item) for item in history]

    async def get_sandbox_statistics(self, user_id: int | str | None = None) -> dict[str, Any]:
        """`active_sandboxes`, `success_rate` in percent, `average_execution_time` in seconds, and more."""
        found = await self._client.statistics(user_id="" if user_id is None else user_id)
        return service_answers.statistics(found)

    async def create_processor_template(self, sandbox_id: str, name: str = "data_processor") -> str:
        """Code of a processor; replace "# Add your transformation logic here" with your own."""
        return await (await self._sandbox(sandbox_id)).create_processor_template(name)

    async def get_available_functions(self, sandbox_id: str | None = None) -> dict[str, Any]:
        """`functions`, `allowed_modules` and `blocked_builtins` of a sandbox."""
        if sandbox_id is None:
            return service_answers.guest_api(await self._client.functions())
        return service_answers.guest_api(await (await self._sandbox(sandbox_id)).functions())

    async def get_code_examples(self, sandbox_id: str | None = None) -> list[dict[str, Any]]:
        """Pieces of code that run in a sandbox as they are."""
        if sandbox_id is None:
            return [service_answers.plain(item) for item in await self._client.examples()]
        return [service_answers.plain(item) for item in await (await self._sandbox(sandbox_id)).examples()]

    async def quick_execute(
        self,
        code: str,
        user_id: int | str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> ExecutionResult:
        """Runs `code` in a sandbox made for it and deleted after it."""
        return await self._client.quick_execute(code, **_quick_options(config, user_id))

    async def analyze_data(
        self,
        data: object,
        analysis: Analysis = "summary",
        *,
        code: str = "",
        user_id: int | str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> ExecutionResult:
        """Runs a named analysis over `data`, or `code` that finds it in the variable `data`."""
        options = _quick_options(config, user_id)
        return await self._client.analyze_data(data, analysis, code=code, **options)

    async def _sandbox(self, sandbox_id: str) -> Sandbox:
        """The sandbox; the server is asked only once for one that was made elsewhere."""
        found = self._sandboxes.get(sandbox_id)
        if found is None:
            found = self._sandboxes[sandbox_id] = await self._client.get_sandbox(sandbox_id)
        return found


def _quick_options(config: Mapping[str, Any] | None, user_id: int | str | None) -> QuickOptions:
    options: QuickOptions = {}
    options.update(create_options(config or {}))  # type: ignore[typeddict-item] # its keys are a subset
    if user_id is not None:
        options["user_id"] = user_id
    return options
