"""Past executions, newest kept, by owner and id. In memory: bounded by count and bytes for each owner."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator

from sandboxd.errors import ExecutionNotFound
from sandboxd.executions.live import LiveExecution

_MAX_EXECUTIONS = 1000
_MAX_BYTES = 64 * 1024 * 1024


class ExecutionHistory:
    """Every look-up is by owner and id; a foreign execution is a missing one."""

    def __init__(self) -> None:
        self._of_owner: dict[str, OrderedDict[str, LiveExecution]] = defaultdict(OrderedDict)
        self._bytes: dict[str, int] = defaultdict(int)

    def add(self, live: LiveExecution) -> None:
        """Remembers a new execution; the oldest finished ones of its owner make room."""
        self._of_owner[live.execution.owner][live.execution.id] = live
        self._bytes[live.execution.owner] += live.stored_bytes
        self._trim(live.execution.owner)

    def grown(self, live: LiveExecution, by_bytes: int) -> None:
        """An execution has its result now."""
        self._bytes[live.execution.owner] += by_bytes
        self._trim(live.execution.owner)

    def get(self, *, owner: str, execution_id: str) -> LiveExecution:
        """The execution, if it is this owner's and still kept."""
        live = self._of_owner[owner].get(execution_id) if owner in self._of_owner else None
        if live is None:
            raise ExecutionNotFound(id=execution_id)
        return live

    def newest_first(self, *, owner: str) -> Iterator[LiveExecution]:
        """The owner's executions."""
        return reversed(self._of_owner[owner].values()) if owner in self._of_owner else iter(())

    def everyone(self) -> Iterator[LiveExecution]:
        """All executions that are kept."""
        for executions in self._of_owner.values():
            yield from executions.values()

    def _trim(self, owner: str) -> None:
        executions = self._of_owner[owner]
        while len(executions) > _MAX_EXECUTIONS or self._bytes[owner] > _MAX_BYTES:
            oldest = next(
                (live for live in executions.values() if live.execution.state.final and live.done), None
            )
            if oldest is None or len(executions) == 1:
                return
            del executions[oldest.execution.id]
            self._bytes[owner] -= oldest.stored_bytes
