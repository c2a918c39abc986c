"""The executions that are in memory with all their events: the running ones and the latest of each owner."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator

from sandboxd.executions.live import LiveExecution
from sandboxd.limits import MIB

_MOST_OF_OWNER = 200
_BYTES_OF_OWNER = 8 * MIB
_BYTES = 64 * MIB
"""Of all owners together: a thousand of them must not fill the machine."""


class RecentExecutions:
    """Bounded by number and bytes. One that runs is never left out, nor is the latest of an owner for the
    sake of that owner's share; what is left out is read from the store, without its events."""

    def __init__(
        self,
        *,
        most_of_owner: int = _MOST_OF_OWNER,
        bytes_of_owner: int = _BYTES_OF_OWNER,
        bytes_in_all: int = _BYTES,
    ) -> None:
        self._most_of_owner = most_of_owner
        self._bytes_of_owner = bytes_of_owner
        self._bytes_in_all = bytes_in_all
        self._all: OrderedDict[str, LiveExecution] = OrderedDict()
        self._of_owner: defaultdict[str, OrderedDict[str, LiveExecution]] = defaultdict(OrderedDict)
        self._counted: dict[str, int] = {}
        """Bytes of an execution as they were counted last."""
        self._owned: defaultdict[str, int] = defaultdict(int)
        self._total = 0

    def __iter__(self) -> Iterator[LiveExecution]:
        """All of them, the oldest first."""
        return iter(self._all.values())

    def get(self, execution_id: str, *, owner: str | None) -> LiveExecution | None:
        """The execution, if it is in memory and this owner's; an owner of None may see all."""
        live = self._all.get(execution_id)
        return live if live is not None and owner in (None, live.execution.owner) else None

    def add(self, live: LiveExecution) -> list[LiveExecution]:
        """Takes one in; returns those that had to go for it."""
        self._all[live.execution.id] = live
        self._of_owner[live.execution.owner][live.execution.id] = live
        return self.grown(live)

    def grown(self, live: LiveExecution) -> list[LiveExecution]:
        """Counts one anew, after its end; returns those that had to go."""
        execution = live.execution
        if execution.id in self._all:
            self._count(execution.owner, execution.id, live.stored_bytes)
        return self._trim(execution.owner)

    def remove(self, live: LiveExecution) -> None:
        """Leaves one out; harmless when it was."""
        owner, execution_id = live.execution.owner, live.execution.id
        if self._all.pop(execution_id, None) is None:
            return
        self._count(owner, execution_id, 0)
        del self._counted[execution_id]
        del self._of_owner[owner][execution_id]
        if not self._of_owner[owner]:
            del self._of_owner[owner], self._owned[owner]

    def _count(self, owner: str, execution_id: str, size: int) -> None:
        more = size - self._counted.get(execution_id, 0)
        self._counted[execution_id] = size
        self._owned[owner] += more
        self._total += more

    def _trim(self, owner: str) -> list[LiveExecution]:
        gone = []
        own = self._of_owner.get(owner)
        while own and len(own) > 1 and self._too_much(owner, len(own)):
            oldest = next((live for live in own.values() if live.done), None)
            if oldest is None:
                break
            gone.append(oldest)
            self.remove(oldest)
        while self._total > self._bytes_in_all:
            oldest = next((live for live in self if live.done), None)
            if oldest is None:
                break
            gone.append(oldest)
            self.remove(oldest)
        return gone

    def _too_much(self, owner: str, count: int) -> bool:
        return count > self._most_of_owner or self._owned[owner] > self._bytes_of_owner
