"""Finds which variables of a frame changed since its last step."""

import types
from collections.abc import Callable, Iterable
from typing import Any

from sandboxd.guest.debug.changes import SCALARS, Mark, find_changes
from sandboxd.guest.debug.frames import MISSING, FrameState, is_hidden_name, is_hidden_value
from sandboxd.guest.debug.libraries import described
from sandboxd.guest.debug.plan import StatementPlan
from sandboxd.guest.debug.values import STEP_NODES, Renderer
from sandboxd.guest.debug.wire import bytes_field, varint, zigzag

INTEGER, OTHER, UNBOUND = 1, 2, 3
"""`ChangeKind` on the wire."""
Change = tuple[int, int, Any]
"""Id of the name, kind, and an int, the body of a `Change` or None."""
INT64 = 1 << 63
_MAX_KEPT_TEXT = 1024
_LIBRARY_FAULTS = (AttributeError, IndexError, RecursionError, TypeError, ValueError)
"""What a look into a library's object may raise."""
GLOBAL = b"\x28\x01"
"""`is_global` of a `Change`."""


class Differ:
    """Compares frames with what is known of them; shared by all frames of a run."""

    def __init__(
        self,
        *,
        renderer: Renderer,
        ids: dict[str, int],
        name_id: Callable[[str], int],
        watched: frozenset[str],
        hidden: frozenset[int],
        shown: int,
        max_variables: int,
    ) -> None:
        self._renderer = renderer
        self._ids = ids
        self._name_id = name_id
        self._watched = watched
        self._hidden = hidden
        """Addresses of objects that belong to the guest API, not to the user."""
        self._shown = shown
        self._max_variables = max_variables
        self.left_out = 0
        self.picture_bytes = 0
        """Bytes of pictures made, for who decides how many steps fit a message."""

    def take_picture_bytes(self) -> int:
        """Bytes of pictures made since this was last asked."""
        made, self.picture_bytes = self.picture_bytes, 0
        return made

    def function(
        self, state: FrameState, frame: types.FrameType, executed: StatementPlan, *, foreign: bool
    ) -> list[Change] | None:
        """Changes of the frame's own variables."""
        snap = state.snap
        ids, watched = self._ids, self._watched
        hidden = state.plan.hidden
        variables = frame.f_locals
        changes: list[Change] | None = None
        known = 0
        for name, value in variables.items():
            old = snap.get(name, MISSING)
            if value is old:
                known += 1
                continue
            if name in hidden or is_hidden_name(name):
                continue
            known += 1
            # Inlined because most changes are of this kind: a call would cost a third of the step.
            if type(value) is int and -INT64 <= value < INT64 and not watched:
                snap[name] = value
                found: list[Change] | None = [(ids.get(name) or self._name_id(name), INTEGER, value)]
            else:
                found = self._look(state, name, value, old, executed, foreign)
            if found is not None:
                changes = found if changes is None else changes + found
        if known < len(snap):
            gone = [name for name in snap if name not in variables]
            changes = (changes or []) + [self._unbind(snap, name) for name in gone]
        if changes is not None and (len(changes) > 1 or changes[0][1] != INTEGER):
            changes += self._aliases(snap, variables, changes)
        return changes

    def module(
        self,
        state: FrameState,
        variables: dict[str, Any],
        executed: StatementPlan,
        *,
        foreign: bool,
        names: Iterable[str] | None = None,
    ) -> list[Change] | None:
        """Changes of the module's variables, or of those called `names`."""
        snap = state.snap
        ids, watched = self._ids, self._watched
        changes: list[Change] | None = None
        for name in state.watch if names is None else names:
            value = variables.get(name, MISSING)
            old = snap.get(name, MISSING)
            if value is old:
                continue
            if type(value) is int and -INT64 <= value < INT64 and not watched:  # inlined, as above
                snap[name] = value
                found: list[Change] | None = [(ids.get(name) or self._name_id(name), INTEGER, value)]
            elif value is MISSING:
                found = [self._unbind(snap, name)]
            else:
                found = self._look(state, name, value, old, executed, foreign)
            if found is not None:
                changes = found if changes is None else changes + found
        if changes is not None and names is None and (len(changes) > 1 or changes[0][1] != INTEGER):
            changes += self._aliases(snap, variables, changes)
        return changes

    def simple_change(self, name: str, value: Any) -> tuple[list[Change], Any] | None:
        """What a known variable's new value is told as and remembered by; None when that takes more than a
        look at the value itself."""
        if _is_kept_whole(value):
            kept, picture = value, bytes_field(2, self._renderer.render(value))
        elif described(type(value)) is None or id(value) in self._hidden:
            return None
        else:
            self._renderer.step_nodes_left = STEP_NODES
            try:
                kept = Mark(value, self._renderer)
            except _LIBRARY_FAULTS:  # who takes the long way counts it
                return None
            picture = bytes_field(2, kept.picture)
        self.picture_bytes += len(picture)
        return [(self._name_id(name), OTHER, picture)], kept

    def changed_in_place(self, state: FrameState, variables: Any, bound: str | None) -> bool:
        """Whether an object without parts, other than what was just bound to `bound`, may have changed."""
        known = state.snap
        try:
            for name, mark in state.described.items():
                if known.get(name) is not mark or name == bound:
                    continue
                value = variables.get(name)
                if id(value) != mark.address or mark.print_of(value) != mark.print_:
                    return True
        except _LIBRARY_FAULTS:
            return True
        return False

    def _look(
        self,
        state: FrameState,
        name: str,
        value: Any,
        old: Any,
        executed: StatementPlan,
        foreign: bool,  # noqa: FBT001
    ) -> list[Change] | None:
        kind = type(value)
        if kind is int and -INT64 <= value < INT64:
            state.snap[name] = value
            return [(self._name_id(name), INTEGER, value)] if self._wanted(name) else None
        if type(old) is Mark and old.address == id(value):
            named = name in executed.names
            if not (foreign or (executed.changes and (named or executed.calls))):
                return None
            if old.print_of is not None and old.print_of(value) == old.print_:
                return None
            bodies = find_changes(old, value, self._renderer, deep=foreign or named, shown=self._shown)
        else:
            bodies = self._bind(state, name, value)
        if bodies is None or not self._wanted(name):
            return None
        number = self._name_id(name)
        for body in bodies:
            self.picture_bytes += len(body)
        return [(number, OTHER, body) for body in bodies]

    def _bind(self, state: FrameState, name: str, value: Any) -> list[bytes] | None:
        snap = state.snap
        if is_hidden_value(value) or id(value) in self._hidden:
            snap[name] = value
            return None
        if len(snap) >= self._max_variables and name not in snap:
            self.left_out += 1
            return None
        if _is_kept_whole(value):
            snap[name] = value
            return [bytes_field(2, self._renderer.render(value))]
        mark = snap[name] = Mark(value, self._renderer)
        state.found_object(name, mark)
        return [bytes_field(2, mark.picture)]

    def _unbind(self, snap: dict[str, Any], name: str) -> Change:
        snap.pop(name, None)
        return (self._name_id(name), UNBOUND, None)

    def _wanted(self, name: str) -> bool:
        return not self._watched or name in self._watched

    def _aliases(self, snap: dict[str, Any], variables: Any, changes: list[Change]) -> list[Change]:
        """Changes of other variables in whose pictures a changed object appears."""
        holders = [(name, mark) for name, mark in snap.items() if type(mark) is Mark and mark.inner]
        reported = {change[0] for change in changes if change[1] != INTEGER} if holders else ()
        if not reported:
            return []
        changed = {
            mark.address
            for name, mark in snap.items()
            if type(mark) is Mark and self._name_id(name) in reported
        }
        found: list[Change] = []
        for name, mark in holders:
            number = self._name_id(name)
            if number in reported or mark.inner.isdisjoint(changed) or not self._wanted(name):
                continue
            value = variables.get(name, MISSING)
            if value is MISSING or id(value) != mark.address:
                continue
            bodies = find_changes(mark, value, self._renderer, deep=True, shown=self._shown)
            found += [(number, OTHER, body) for body in bodies or ()]
        return found


def _is_kept_whole(value: Any) -> bool:
    kind = type(value)
    return id(kind) in SCALARS and not ((kind is str or kind is bytes) and len(value) > _MAX_KEPT_TEXT)


def as_global(change: Change) -> Change:
    """The same change, marked as one of a global seen from within a function."""
    number, kind, content = change
    if kind == INTEGER:
        return (number, OTHER, bytes_field(2, b"\x18" + varint(zigzag(content))) + GLOBAL)
    body = b"\x18\x01" if content is None else content
    return (number, OTHER, body + GLOBAL)
