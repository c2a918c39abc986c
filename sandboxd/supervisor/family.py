"""What a guest and its copies share: control group, user id, fork gate. It lives as long as any of them."""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxd.isolation.plan import OOM_SCORE_ADJUSTMENT, UID_BASE
from sandboxd.supervisor import kernel_files, pidfds
from sandboxd.supervisor.cgroups import Cgroup
from sandboxd.supervisor.fork_gate import ForkGate
from sandboxd.supervisor.shortages import Shortages

if TYPE_CHECKING:
    from sandboxd.supervisor.guest_process import GuestProcess
    from sandboxd.supervisor.zygote_process import ZygoteProcess

MOST_PROCESSES = 4096
"""Hard limit of processes and threads of a family; the soft one, which holds, follows its size."""
_SWEEP_ROUNDS = 100
_SWEEP_AFTER_SECONDS = (0.0, 0.1, 2.0)
_SWEEP_AGAIN_SECONDS = 0.05
_ROOM_BESIDE = 2
_OLDER_COPY_DIES, _LATEST_COPY_DIES, _SESSION_DIES = 1000, 950, OOM_SCORE_ADJUSTMENT
"""oom_score_adj, in thousandths of the limit. Source: proc_pid_oom_score_adj(5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestShape:
    """The limits that are set when a guest is made and can't be changed later."""

    memory_bytes: int
    open_files: int
    threads: int
    workspace_bytes: int
    workspace_inodes: int


class Family:
    """The guests that were copied from one another. `release` is called when the last one is gone."""

    def __init__(
        self,
        *,
        number: int,
        uid: int,
        zygote: "ZygoteProcess",
        shape: GuestShape,
        release: Callable[["Family"], None],
    ) -> None:
        self.number = number
        self.uid = uid
        """As the zygote sees it; 0 where guests have no ids of their own."""
        self.zygote = zygote
        self.cgroup: Cgroup | None = None
        self.gate: ForkGate | None = None
        self.members: set[GuestProcess] = set()
        self.shape = shape
        self.cpu_percent = 100
        """Share of one core that each member may use."""
        self._release = release
        self.orders = 0
        """Copies in the making; their processes are no strays although nobody knows them yet."""
        self._oom_kills_seen = 0
        self._shortages = Shortages(self)
        self._closed = False

    def join(self, guest: "GuestProcess") -> None:
        """Counts a guest until it is gone."""
        self.members.add(guest)

    def leave(self, guest: "GuestProcess") -> None:
        """A guest is gone; with the last one goes what they shared."""
        self.members.discard(guest)
        if not self.members:
            self.close()
        elif guest.parked:
            self._shortages.copies_changed()

    def close(self) -> None:
        """Nobody is left: gives back what they shared. Harmless when it was done."""
        if not self._closed:
            self._closed = True
            if self.gate:
                self.gate.close()
            self._shortages.close()
            self._release(self)

    def claim_oom_kill(self) -> bool:
        """Whether the kernel killed a member for memory that nobody has accounted for yet."""
        if self.cgroup is None or self.cgroup.oom_kills() <= self._oom_kills_seen:
            return False
        self._oom_kills_seen += 1
        return True

    # --- limits that count per user id -----------------------------------------------------------

    def allow_tasks(self, guest: "GuestProcess", *, forks: int = 0) -> None:
        """Moves the soft limit of processes and threads of `guest` to what the family may have now.

        RLIMIT_NPROC counts every task of the user id, copies included. The guest can't move it: its
        filter lets it only read limits. Where the host may not, the limit of the start stays.
        """
        if not self.zygote.plan.counts_tasks_apart:
            return
        parked = sum(member.parked for member in self.members)
        sessions = max(1, len(self.members) - parked)
        # Branches share their threads; beside them a checkpoint of one may be in the making.
        others = _ROOM_BESIDE * (sessions - 1)
        room = sessions * (self.shape.threads + 1) + parked + forks + others
        with contextlib.suppress(OSError, ValueError):
            hard = resource.prlimit(guest.pid, resource.RLIMIT_NPROC)[1]
            if hard != resource.RLIM_INFINITY:
                resource.prlimit(guest.pid, resource.RLIMIT_NPROC, (min(room, hard), hard))

    def park(self, guest: "GuestProcess") -> None:
        """A copy that waits. When memory runs out, copies die before sessions."""
        guest.parked = True
        _write_oom_score(guest.pid, _LATEST_COPY_DIES)
        self._shortages.copies_changed()

    def outdate(self, guest: "GuestProcess") -> None:
        """A copy that is not the latest of its session dies before the one that is."""
        guest.outdated = True
        _write_oom_score(guest.pid, _OLDER_COPY_DIES)

    def expend(self, guest: "GuestProcess") -> None:
        """A copy that only answers a question dies before any that keeps a state."""
        guest.expendable = True
        _write_oom_score(guest.pid, _OLDER_COPY_DIES)

    def unpark(self, guest: "GuestProcess") -> None:
        """The copy is a session now."""
        guest.parked = guest.outdated = False
        _write_oom_score(guest.pid, _SESSION_DIES)
        self._shortages.copies_changed()

    # --- strays ----------------------------------------------------------------------------------

    def sweep_soon(self) -> None:
        """An ordered fork went through and nobody introduced himself: he is dead, lives hidden, or is not
        born yet. Looks several times, never while another copy is in the making."""
        loop = asyncio.get_running_loop()
        for seconds in _SWEEP_AFTER_SECONDS:
            loop.call_later(seconds, self._sweep_unless_ordered)

    def _sweep_unless_ordered(self) -> None:
        if not self.orders:
            self.sweep_strays()
        elif not self._closed:
            asyncio.get_running_loop().call_later(_SWEEP_AGAIN_SECONDS, self._sweep_unless_ordered)

    def sweep_strays(self) -> int:
        """Kills every process of the family that is not a member. Returns how many there were.

        Nothing is left behind even by a guest that breaks the protocol of copying.
        """
        killed = 0
        for _ in range(_SWEEP_ROUNDS):
            known = {guest.pid for guest in self.members if guest.pidfd >= 0}
            strays = [pid for pid in self._pids() if pid not in known]
            if not strays:
                break
            killed += sum(self._kill(pid) for pid in strays)
        return killed

    def _pids(self) -> list[int]:
        if self.cgroup is not None:
            return self.cgroup.pids()
        processes = _processes()
        if not self.uid:  # ids are shared: only the children of a member are surely of the family
            known = {guest.pid for guest in self.members}
            return [pid for pid, process in processes.items() if pid in known or process.parent in known]
        uid = UID_BASE + self.uid  # another server's guest may have the same: below our zygote only
        return [
            pid
            for pid, process in processes.items()
            if process.uid == uid and _descends(pid, self.zygote.pid, processes)
        ]

    def _kill(self, pid: int) -> bool:
        """By pidfd, after another look: the number may have passed to another process."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            return pid in self._pids() and pidfds.send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    uid: int


def _processes() -> dict[int, _Process]:
    """Every live process, by its id."""
    found = {}
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            pid = int(name)
            text = Path(f"/proc/{pid}/status").read_text()
            fields = {
                key: rest.split() for key, _, rest in (line.partition(":") for line in text.split("\n"))
            }
            if fields["State"][0] not in ("Z", "X"):
                found[pid] = _Process(parent=int(fields["PPid"][0]), uid=int(fields["Uid"][0]))
    return found


def _descends(pid: int, ancestor: int, processes: dict[int, _Process]) -> bool:
    while pid in processes and pid != ancestor:
        pid = processes[pid].parent
    return pid == ancestor


def _write_oom_score(pid: int, score: int) -> None:
    with contextlib.suppress(OSError):
        kernel_files.write(f"/proc/{pid}/oom_score_adj", score)
