"""Who goes when a family runs out of memory: copies, one by one, by the host's choice; only then a session.

The kernel's own killer takes a process that it has chosen for gone some milliseconds before its pages are
free, and chooses the next; with pages that copies share it went on to the session, although ending the
copies was enough. While there are copies the killer is held, and whoever needs memory waits for the host.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from sandboxd.supervisor.guest_exit import OUT_OF_MEMORY

if TYPE_CHECKING:
    from sandboxd.supervisor.family import Family
    from sandboxd.supervisor.guest_process import GuestProcess


class Shortages:
    """Watches the control group of one family. Without one, or where it does not tell, the kernel decides,
    by the scores that the family has set."""

    def __init__(self, family: "Family") -> None:
        self._family = family
        self._event: int | None = None
        """An eventfd; -1 where there is none, None before the first copy."""
        self._held = False
        self._ending: GuestProcess | None = None
        """The copy that was ended last, until it is gone: what it frees may be enough."""

    def copies_changed(self) -> None:
        """A copy was parked, is gone, or became a session."""
        wanted = any(member.parked for member in self._family.members)
        if self._ending is not None and self._ending not in self._family.members:
            self._ending = None
        if wanted and self._can_watch():
            self._hold(hold=True)
            if self._ending is None and self._family.cgroup and self._family.cgroup.is_short():
                self._end_one()
        elif not wanted:
            self._hold(hold=False)

    def close(self) -> None:
        """The family has ended."""
        if self._event is not None and self._event >= 0:
            asyncio.get_running_loop().remove_reader(self._event)
            os.close(self._event)
        self._event = -1

    def _can_watch(self) -> bool:
        if self._event is None:
            group = self._family.cgroup
            self._event = group.watch_shortages() if group is not None else -1
            if self._event >= 0:
                asyncio.get_running_loop().add_reader(self._event, self._happened)
        return self._event >= 0

    def _hold(self, *, hold: bool) -> None:
        if hold != self._held and self._family.cgroup is not None:
            self._held = hold
            self._family.cgroup.hold_killer(hold=hold)

    def _happened(self) -> None:
        assert self._event is not None
        os.eventfd_read(self._event)
        if self._ending is None:
            self._end_one()

    def _end_one(self) -> None:
        """One that only answers a question, else the oldest that is not the latest, else the oldest of all;
        copies that end already may free enough."""
        copies = [member for member in self._family.members if member.parked and member.alive]
        if copies:
            self._ending = min(copies, key=lambda it: (not it.expendable, not it.outdated, it.guest_id))
            self._ending.kill(OUT_OF_MEMORY)
