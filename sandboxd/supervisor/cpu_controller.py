"""Holds guests to their CPU share by stopping and continuing them, where no control group can; and to their
number of threads where the kernel can't count them apart.

As accurate as the kernel's quota at this tick (50.0 % of 50 % asked), because it goes by what was really
used. Every guest is held, whether or not it executes something: a thread may outlive its execution.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from sandboxd.supervisor import pidfds
from sandboxd.supervisor.guest_process import GuestProcess

_TICK_SECONDS = 0.05


@dataclass(slots=True)
class _Account:
    """What one guest has used and may still use before it is stopped."""

    used_nanos: int
    balance_seconds: float = 0.0
    stopped: bool = False


class CpuController:
    """Looks at all guests at every tick. It never leaves one stopped when it ends."""

    def __init__(self, guests: Callable[[], Iterable[GuestProcess]]) -> None:
        self._guests = guests
        self._accounts: WeakKeyDictionary[GuestProcess, _Account] = WeakKeyDictionary()

    async def run(self) -> None:
        """Runs until cancelled."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        try:
            while True:
                await asyncio.sleep(_TICK_SECONDS)
                now = loop.time()
                for guest in list(self._guests()):
                    if guest.alive and not guest.parked:
                        self._hold(guest, elapsed=now - last)
                last = now
        finally:
            for guest, account in self._accounts.items():
                if account.stopped and guest.alive:
                    pidfds.send_signal(guest.pidfd, signal.SIGCONT)

    def _hold(self, guest: GuestProcess, *, elapsed: float) -> None:
        used = pidfds.cpu_nanos(guest.pid)
        account = self._accounts.get(guest)
        if account is None:
            self._accounts[guest] = _Account(used)
            return
        share = guest.family.cpu_percent / 100
        spent = max(0, used - account.used_nanos) / 1e9
        account.used_nanos = used
        # What is not used is not saved up: a share, not an account.
        account.balance_seconds = min(
            account.balance_seconds + elapsed * share - spent, _TICK_SECONDS * share
        )
        stop = account.balance_seconds < 0
        if spent and not guest.family.zygote.plan.counts_tasks_apart:
            self._count_threads(guest)
        if stop != account.stopped and guest.alive:
            account.stopped = stop
            pidfds.send_signal(guest.pidfd, signal.SIGSTOP if stop else signal.SIGCONT)

    def _count_threads(self, guest: GuestProcess) -> None:
        most = guest.family.shape.threads + 1
        if pidfds.thread_count(guest.pid) > most:
            guest.kill(f"had more than {most - 1} threads beside the main one")
