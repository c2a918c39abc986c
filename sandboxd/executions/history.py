"""Executions by owner and id: the recent ones in memory with their events, all of them in the store.

Nothing is acknowledged before the store has it; a request id stands for one execution for as long as the
store keeps it.
"""

from collections.abc import Iterable, Iterator

from sandboxd.errors import RequestIdReused
from sandboxd.executions import records
from sandboxd.executions.live import LiveExecution
from sandboxd.executions.model import Execution, ExecutionKind, ExecutionRequest
from sandboxd.executions.recent import RecentExecutions
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.store import executions as stored
from sandboxd.store.errors import StoreFull, StoreUnavailable
from sandboxd.store.executions import ExecutionFilter
from sandboxd.store.records import Duplicate, ExecutionSummary

MOST_PAGE_BYTES = 16 * 1024 * 1024
"""Of whole executions in one page: an answer is built in memory and has a largest size."""


class ExecutionHistory:
    """Every look-up is by owner and id; a foreign execution is a missing one."""

    def __init__(self, store: stored.ExecutionHistory) -> None:
        self._store = store
        self._recent = RecentExecutions()
        self._by_request: dict[tuple[str, str], tuple[LiveExecution, bytes]] = {}

    # --- from begin to finish --------------------------------------------------------------------

    def by_request(self, sandbox: Sandbox, request: ExecutionRequest) -> LiveExecution | None:
        """The execution that a request id stands for, while it is in memory."""
        found = self._by_request.get((sandbox.owner, request.request_id)) if request.request_id else None
        if found is None:
            return None
        live, fingerprint = found
        if fingerprint != _fingerprint(request, sandbox.id):
            raise RequestIdReused()
        return live

    async def retried(
        self, *, owner: str, request_id: str, sandbox_id: str, code: str
    ) -> LiveExecution | None:
        """The first execution of a request whose sandbox has ended since; raises `RequestIdReused`."""
        record = await self._store.by_request(owner, request_id)
        if record is None:
            return None
        if (record.sandbox_id, record.code) != (sandbox_id, code):
            raise RequestIdReused()
        return await self.get(owner=owner, execution_id=record.id)

    async def begin(self, live: LiveExecution) -> LiveExecution:
        """Records it before it runs; returns the earlier one when its request id was used before."""
        execution, request = live.execution, live.execution.request
        fingerprint = _fingerprint(request, execution.sandbox_id) if request.request_id else None
        begun = await self._store.begin(records.begun(execution, request_fingerprint=fingerprint))
        if isinstance(begun, Duplicate):
            kept = self._recent.get(begun.record.id, owner=execution.owner)
            return kept or LiveExecution.of_the_past(records.from_record(begun.record))
        if fingerprint is not None:
            self._by_request[execution.owner, request.request_id] = (live, fingerprint)
        self._forget(self._recent.add(live))
        return live

    def started(self, live: LiveExecution) -> None:
        """User code runs from now on."""
        start_time = live.execution.start_time
        if start_time is not None:
            self._store.started(live.execution.id, start_time)

    async def finish(self, live: LiveExecution) -> None:
        """Records the outcome, then wakes who waits for it."""
        execution, result = live.execution, live.execution.result
        try:
            if result is not None and live.refused is None:
                await self._store.finish(execution.id, records.outcome(execution, result))
            elif live.refused is not None:
                await self._withdraw(live)
        except (StoreFull, StoreUnavailable) as error:
            live.refused = error
        finally:
            live.finish()
            self._forget(self._recent.grown(live))

    async def _withdraw(self, live: LiveExecution) -> None:
        """Nothing ran and the caller is told so: a retry with the same request id may run."""
        execution = live.execution
        self._by_request.pop((execution.owner, execution.request.request_id), None)
        self._recent.remove(live)
        await self._store.withdraw(execution.id)

    # --- looking back ----------------------------------------------------------------------------

    def live(self, *, owner: str | None, execution_id: str) -> LiveExecution | None:
        """The execution, if it is this owner's and in memory; an owner of None is an admin, who sees all."""
        return self._recent.get(execution_id, owner=owner)

    async def get(self, *, owner: str | None, execution_id: str) -> LiveExecution:
        """The execution, if it is this owner's; raises `ExecutionNotFound`."""
        live = self.live(owner=owner, execution_id=execution_id)
        if live is not None:
            return live
        record = await self._store.get(owner=owner, execution_id=execution_id)
        return LiveExecution.of_the_past(records.from_record(record))

    async def list(
        self, wanted: ExecutionFilter, *, page_size: int, page_token: str, full: bool
    ) -> tuple[list[Execution], str]:
        """A page, newest first, and the token of the next."""
        page = await self._store.list(
            wanted,
            page_size=page_size,
            page_token=page_token,
            most_bytes=MOST_PAGE_BYTES if full else None,
        )
        if not full:
            return [self._as_listed(item) for item in page.executions], page.next_page_token
        found = [
            records.from_record(await self._store.get(owner=wanted.owner, execution_id=item.id))
            for item in page.executions
        ]
        return found, page.next_page_token

    def _as_listed(self, item: ExecutionSummary) -> Execution:
        """One that runs knows more of itself than the store does."""
        live = self.live(owner=item.owner, execution_id=item.id)
        return live.execution if live is not None else records.from_summary(item)

    def everyone(self) -> Iterator[LiveExecution]:
        """All executions that are in memory."""
        return iter(self._recent)

    def _forget(self, gone: Iterable[LiveExecution]) -> None:
        for live in gone:
            self._by_request.pop((live.execution.owner, live.execution.request.request_id), None)


def _fingerprint(request: ExecutionRequest, sandbox_id: str) -> bytes:
    """A quick execution has a new sandbox at each try: its id is not part of the request."""
    own_sandbox = request.kind in (ExecutionKind.QUICK_EXECUTE, ExecutionKind.ANALYZE_DATA)
    return records.fingerprint(request, "" if own_sandbox else sandbox_id)
