"""Processes by descriptor: a pidfd never names another process, as a reused pid would. See pidfd_open(2)."""

import contextlib
import signal
import time
from pathlib import Path

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h


def send_signal(pidfd: int, number: signal.Signals) -> bool:
    """Signals the process; False when it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def pid_of(pidfd: int) -> int:
    """The process id as this process sees it; -1 when the process is reaped. Source: pidfd_open(2), NOTES."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return -1


def cpu_nanos(pid: int) -> int:
    """CPU time of process `pid`, threads that ended included; 0 when it is gone.

    The clock id of another process's CPU clock as clock_getcpuclockid(3) makes it.
    """
    try:
        return time.clock_gettime_ns(((~pid) << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0


def status_bytes(pid: int, *keys: str) -> list[int]:
    """Sizes from /proc/PID/status, e.g. VmHWM; 0 for what is not there. Source: proc_pid_status(5)."""
    found = dict.fromkeys(keys, 0)
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, rest = line.partition(":")
            if key in found:
                found[key] = int(rest.split()[0]) * 1024
    return [found[key] for key in keys]
