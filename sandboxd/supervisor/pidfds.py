"""Processes by descriptor: a pidfd never names another process, as a reused pid would. See pidfd_open(2)."""

import contextlib
import fcntl
import os
import signal
import struct
import time
from pathlib import Path

from sandboxd.supervisor import kernel_files

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h
_GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO of linux/pidfd.h, since Linux 6.13
_INFO = struct.Struct("=QQIIIIIIIIIIIi")
"""struct pidfd_info: mask, cgroup id, pid, tgid, ppid, eight ids, exit code."""
_INFO_PID = 1
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_THREADS = 17  # of proc_pid_stat(5), counted from behind the name
_PF_EXITING = 4  # linux/sched.h, in the flags of proc_pid_stat(5)
_INFO_EXIT = 8  # since Linux 6.15, once the process is reaped


def send_signal(pidfd: int, number: signal.Signals) -> bool:
    """Signals the process; False when it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def pid_of(pidfd: int) -> int:
    """The process id as this process sees it; -1 when the process is reaped. Source: pidfd_open(2), NOTES."""
    buffer = bytearray(_INFO.size)
    _INFO.pack_into(buffer, 0, _INFO_PID, *([0] * 13))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer, True)
    except ProcessLookupError:
        return -1
    except OSError:
        return _pid_by_name(pidfd)
    return int(_INFO.unpack(buffer)[2])


def _pid_by_name(pidfd: int) -> int:
    """The same on a kernel before 6.13."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return -1


def is_exiting(pid: int) -> bool:
    """Whether the process is on its way out: past the point where it closes its descriptors, before the
    point where its pidfd says so."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return bool(int(text.rpartition(")")[2].split()[6]) & _PF_EXITING)


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal or a tracer. Source: proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False


def exit_status(pidfd: int) -> int | None:
    """The exit status, as waitpid(2) gives it, of a process that somebody else has reaped.

    None before it is reaped and on a kernel that does not tell.
    """
    buffer = bytearray(_INFO.size)
    _INFO.pack_into(buffer, 0, _INFO_EXIT, *([0] * 13))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer, True)
    except OSError:
        return None
    mask, *_, code = _INFO.unpack(buffer)
    return code if mask & _INFO_EXIT else None


def tells_exit_status() -> bool:
    """Whether the kernel has `exit_status` at all."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        buffer = bytearray(_INFO.size)
        _INFO.pack_into(buffer, 0, _INFO_PID, *([0] * 13))
        fcntl.ioctl(pidfd, _GET_INFO, buffer, True)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def cpu_nanos(pid: int) -> int:
    """CPU time of process `pid`, threads that ended included; 0 when it is gone.

    The clock id of another process's CPU clock as clock_getcpuclockid(3) makes it.
    """
    try:
        return time.clock_gettime_ns(((~pid) << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0


def thread_count(pid: int) -> int:
    """Threads of the process, its main one included; 0 when it is gone."""
    try:
        return int(kernel_files.read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[_THREADS])
    except (OSError, IndexError):
        return 0


def anonymous_bytes(pid: int) -> int:
    """Resident memory that is no file's; 0 when the process is gone. Source: statm in proc(5)."""
    try:
        _, resident, shared, *_ = kernel_files.read(f"/proc/{pid}/statm").split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE_BYTES


def private_bytes(pid: int) -> int:
    """Memory that the process shares with nobody; 0 where it can't be read. Walks all of it: slow."""
    total = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1]) * 1024
    return total


def reset_peak(pid: int) -> None:
    """Starts counting VmHWM anew, where this process may. Source: proc_pid_clear_refs(5)."""
    with contextlib.suppress(OSError):
        kernel_files.write(f"/proc/{pid}/clear_refs", 5)


def status_bytes(pid: int, *keys: str) -> list[int]:
    """Sizes from /proc/PID/status, e.g. VmHWM; 0 for what is not there. Source: proc_pid_status(5)."""
    try:
        text = kernel_files.read(f"/proc/{pid}/status")
    except OSError:
        text = b""
    return [_size_in(text, key) for key in keys]


def _size_in(status: bytes, key: str) -> int:
    """Looked for and not split into lines: every execution asks for a few of its sixty."""
    start = status.find(b"\n%s:" % key.encode())
    return int(status[start + len(key) + 2 :].split(None, 1)[0]) * 1024 if start >= 0 else 0
