"""Which states of a session are kept, in order, by id, name and execution. Pure bookkeeping."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sandboxd.ids import CheckpointId, new_checkpoint_id
from sandboxd.supervisor.guest_process import GuestProcess

MOST_NAMED = 32


class ParkedState:
    """A copy of a guest that waits; it lives while anybody holds it. Branches share their origin's."""

    def __init__(self, guest: GuestProcess) -> None:
        self.guest = guest
        self._holders = 0
        self._promoted = False

    @property
    def alive(self) -> bool:
        """Whether the state can still become a session."""
        return self.guest.alive

    @property
    def exclusive(self) -> bool:
        """Whether only one session may go back to it."""
        return self._holders == 1

    def hold(self) -> "ParkedState":
        """One more holder."""
        self._holders += 1
        return self

    def release(self) -> None:
        """One holder less; the last one ends it."""
        self._holders -= 1
        if self._holders <= 0 and not self._promoted:
            self.guest.kill(_NOT_KEPT)

    def promote(self) -> None:
        """Its process becomes a session; until `replace` nothing that happens to the state ends it."""
        self._promoted = True

    def replace(self, guest: GuestProcess) -> None:
        """A copy of the promoted process takes its place."""
        self._promoted = False
        self.guest = guest
        if self._holders <= 0:
            guest.kill(_NOT_KEPT)


_NOT_KEPT = "its state is no longer kept"


@dataclass(slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A state of one session that is kept."""

    state: ParkedState | None
    """None is the fresh session: any new guest is in that state."""
    after_execution_id: str = ""
    after_execution_number: int = 0
    id: CheckpointId = field(default_factory=new_checkpoint_id)
    name: str = ""
    create_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    ahead: bool = False
    """It lies ahead of the session, after a rewind."""

    @property
    def alive(self) -> bool:
        """Whether it can become the session."""
        return self.state is None or self.state.alive


class CheckpointRing:
    """The kept states of one session, oldest first; `current` is the one that equals the session."""

    def __init__(self, *, history_count: int) -> None:
        self._history_count = history_count
        self._entries: list[Checkpoint] = []
        self._before: dict[int, Checkpoint] = {}
        """The state before an execution, by its number."""
        self._numbers: dict[str, int] = {}
        self.current: Checkpoint | None = None

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self._entries)

    @property
    def named_count(self) -> int:
        """How many have a name."""
        return sum(bool(entry.name) for entry in self._entries)

    def add_current(self, checkpoint: Checkpoint) -> None:
        """The session's state is kept as `checkpoint`; what is too much is dropped."""
        self._entries.append(checkpoint)
        self.current = checkpoint
        self._trim()

    def name_current(self, name: str) -> Checkpoint:
        """Gives the session's state a name; a state may have several, as entries of their own."""
        assert self.current is not None
        for entry in self._entries:
            if entry.name == name:
                self._unname(entry)
                break
        if not self.current.name:
            self.current.name = name
            return self.current
        current = self.current
        twin = Checkpoint(
            state=current.state.hold() if current.state else None,
            after_execution_id=current.after_execution_id,
            after_execution_number=current.after_execution_number,
            name=name,
        )
        self._entries.insert(self._entries.index(current), twin)
        return twin

    def ran(self, execution_id: str, number: int) -> None:
        """An execution begins at the current state."""
        self._numbers[execution_id] = number
        if self.current is not None:
            self._before[number] = self.current

    def changed(self) -> None:
        """An execution changed the session: it equals no kept state, and none lies ahead any more."""
        self.current = None
        for entry in [entry for entry in self._entries if entry.ahead]:
            entry.ahead = False
            if not entry.name:
                self.drop(entry)

    def move_to(self, checkpoint: Checkpoint) -> None:
        """The session is at `checkpoint` now."""
        self.current = checkpoint
        position = self._entries.index(checkpoint)
        for index, entry in enumerate(self._entries):
            entry.ahead = index > position

    def drop(self, checkpoint: Checkpoint) -> None:
        """It is no longer kept."""
        if checkpoint not in self._entries:
            return
        self._entries.remove(checkpoint)
        if self.current is checkpoint:
            self.current = None
        for number in [number for number, entry in self._before.items() if entry is checkpoint]:
            del self._before[number]
        if checkpoint.state is not None:
            checkpoint.state.release()

    def drop_dead(self) -> None:
        """Forgets the states whose process is gone."""
        for entry in [entry for entry in self._entries if not entry.alive]:
            self.drop(entry)

    def drop_all(self) -> None:
        """The sandbox ends."""
        for entry in list(self._entries):
            self.drop(entry)

    def oldest_unneeded(self) -> Checkpoint | None:
        """What to drop first when memory is short: the oldest that has no name and is not current."""
        return next((e for e in self._entries if not e.name and e is not self.current and e.state), None)

    def by_id(self, checkpoint_id: str) -> Checkpoint | None:
        """The entry with that id."""
        return next((entry for entry in self._entries if entry.id == checkpoint_id), None)

    def by_name(self, name: str) -> Checkpoint | None:
        """The entry with that name."""
        return next((entry for entry in self._entries if entry.name == name), None)

    def before_number(self, number: int) -> Checkpoint | None:
        """The state before the execution with that number, while it is kept."""
        return self._before.get(number)

    def before_execution(self, execution_id: str) -> Checkpoint | None:
        """The state before an execution, while it is kept."""
        return self._before.get(self._numbers.get(execution_id, 0))

    def latest_behind(self) -> Checkpoint | None:
        """The newest state that does not lie ahead."""
        return next((entry for entry in reversed(self._entries) if not entry.ahead and entry.alive), None)

    def ways_back(self) -> list[Checkpoint]:
        """Where a session can go after a crash, best first: its own state, then those before it. The fresh
        session counts only when it is what the session was: else it would be a loss by another name."""
        return [
            entry
            for entry in reversed(self._entries)
            if not entry.ahead and entry.alive and (entry.state is not None or entry is self.current)
        ]

    def _unname(self, entry: Checkpoint) -> None:
        entry.name = ""
        self._trim()

    def _trim(self) -> None:
        unnamed = [entry for entry in self._entries if not entry.name and entry is not self.current]
        for entry in unnamed[: max(0, len(unnamed) - self._history_count)]:
            self.drop(entry)
        while len(self._numbers) > _MOST_REMEMBERED:
            del self._numbers[next(iter(self._numbers))]


_MOST_REMEMBERED = 1000
