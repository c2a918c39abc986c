"""The control groups of one guest: memory and CPU, held by the kernel. Tasks are held by resource limits.

Sources: cgroup-v1/memory.rst, cgroup-v2.rst, scheduler/sched-bwc.rst of the kernel's documentation.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from sandboxd.supervisor import kernel_files

MEMORY_SLACK_BYTES = 32 * 1024 * 1024
"""Above the memory limit, so that resource limits fire first: they give a MemoryError, this kills."""
_CPU_PERIOD_MICROS = 20_000
"""Short, so that a throttled snippet waits 10 ms instead of the default period's 50."""
_FIGURE_BYTES = 64
_FREE_BYTES = 1024 * 1024
"""Less than this is none: the kernel's own figure is no more exact."""
_REMOVE_TRIES = 50
_REMOVE_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLimits:
    """What one group may use."""

    memory_bytes: int
    cpu_percent: int


class Cgroup:
    """The groups of one guest, one directory a controller; `remove` when the guest is reaped."""

    def __init__(self, directories: dict[str, Path], *, version: int) -> None:
        self._directories = directories
        self.version = version
        self._oom_path = self._path("memory", "memory.oom_control", "memory.events")
        self._limit_bytes = 0
        self._peak: int | None = None
        self._usage: int | None = None
        self._usage_path = self._path("memory", "memory.usage_in_bytes", "memory.current")
        self._peak_path = self._path("memory", "memory.max_usage_in_bytes", "memory.peak")

    def _path(self, controller: str, name_v1: str, name_v2: str) -> Path:
        return self._directories[controller] / (name_v1 if self.version == 1 else name_v2)

    def limit(self, limits: CgroupLimits) -> None:
        """Sets or changes the limits.

        A burst lets a group that was idle use two periods' share in one: a short execution and the copy
        made after it run through, and the share over any longer time stays what it is.
        """
        memory = self._limit_bytes = limits.memory_bytes + MEMORY_SLACK_BYTES
        quota = limits.cpu_percent * _CPU_PERIOD_MICROS // 100
        if self.version == 1:
            _write_memory_v1(self._directories["memory"], memory)
            _write_burst(self._directories["cpu"] / "cpu.cfs_burst_us", 0)  # never above the quota
            kernel_files.write(self._directories["cpu"] / "cpu.cfs_period_us", _CPU_PERIOD_MICROS)
            kernel_files.write(self._directories["cpu"] / "cpu.cfs_quota_us", quota)
            _write_burst(self._directories["cpu"] / "cpu.cfs_burst_us", quota)
        else:
            kernel_files.write(self._directories["memory"] / "memory.max", memory)
            with contextlib.suppress(OSError):  # no swap accounting: nothing to switch off
                kernel_files.write(self._directories["memory"] / "memory.swap.max", 0)
            _write_burst(self._directories["cpu"] / "cpu.max.burst", 0)
            kernel_files.write(self._directories["cpu"] / "cpu.max", f"{quota} {_CPU_PERIOD_MICROS}")
            _write_burst(self._directories["cpu"] / "cpu.max.burst", quota)

    def attach(self, pid: int) -> None:
        """Moves a process in. Waits for an RCU grace period, up to 15 ms: not for the event loop."""
        for directory in set(self._directories.values()):
            kernel_files.write(directory / "cgroup.procs", pid)

    def peak_memory_bytes(self) -> int:
        """Most memory charged at once, since the last `reset_peak`; 0 where the kernel does not count it, or
        the group is gone."""
        descriptor = self._peak_descriptor()
        try:
            return int(os.pread(descriptor, _FIGURE_BYTES, 0)) if descriptor >= 0 else 0
        except OSError:  # ENODEV: removed, as at the end of the server, while the file is still open
            return 0

    def memory_bytes(self) -> int:
        """Memory charged at this moment; 0 when the group is gone."""
        if self._usage is None:
            try:
                self._usage = os.open(self._usage_path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._usage = -1
        try:
            return int(os.pread(self._usage, _FIGURE_BYTES, 0)) if self._usage >= 0 else 0
        except OSError:
            return 0

    def reset_peak(self) -> None:
        """Starts counting the peak anew, where the kernel allows it."""
        descriptor = self._peak_descriptor()
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(descriptor, b"0", 0)

    def _peak_descriptor(self) -> int:
        """Opened once: both ends of every execution read it. -1 where the kernel has no such file."""
        if self._peak is None:
            try:
                self._peak = os.open(self._peak_path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                self._peak = -1
        return self._peak

    def oom_kills(self) -> int:
        """How many processes of the group the kernel killed for memory."""
        try:
            text = self._oom_path.read_text()
        except OSError:
            return 0
        for line in text.splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def watch_shortages(self) -> int:
        """An eventfd that is written when memory runs out and the killer is held; -1 where the kernel has no
        such thing, as with version 2. The caller closes it. Source: section 10 of cgroup-v1/memory.rst."""
        if self.version != 1:
            return -1
        try:
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError:
            return -1
        try:
            control = os.open(self._oom_path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                kernel_files.write(self._directories["memory"] / "cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except OSError:
            os.close(event)
            return -1
        return event

    def hold_killer(self, *, hold: bool) -> None:
        """While it is held, who needs memory that is not there waits until some is free."""
        with contextlib.suppress(OSError):  # the group is gone
            kernel_files.write(self._oom_path, int(hold))

    def is_short(self) -> bool:
        """Whether somebody waits for memory now and there is none: who waits needs a moment to see that some
        has become free."""
        if self._limit_bytes - self.memory_bytes() > _FREE_BYTES:
            return False
        try:
            return b"under_oom 1" in kernel_files.read(self._oom_path)
        except OSError:
            return False

    def pids(self) -> list[int]:
        """Processes in the group, zombies left out; none when it is gone."""
        try:
            text = (self._directories["memory"] / "cgroup.procs").read_text()
        except OSError:
            return []
        return [int(line) for line in text.split() if line != "0"]

    def remove(self) -> bool:
        """Removes the directories; busy for some milliseconds after the last process. Blocks shortly."""
        for descriptor in (self._peak, self._usage):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._peak = self._usage = -1
        return all([_remove(directory) for directory in set(self._directories.values())])  # noqa: C419  every one is tried


def _write_memory_v1(directory: Path, memory: int) -> None:
    """memsw must never be below memory: raise it first, lower it last."""
    with_swap = directory / "memory.memsw.limit_in_bytes"
    plain = directory / "memory.limit_in_bytes"
    order = (plain, with_swap)
    if with_swap.exists() and int(with_swap.read_text()) < memory:
        order = (with_swap, plain)
    for path in order:
        if path.exists():
            kernel_files.write(path, memory)


def _write_burst(path: Path, micros: int) -> None:
    """Since Linux 5.14; without it short executions wait for the next period now and then."""
    with contextlib.suppress(OSError):
        kernel_files.write(path, micros)


def remove_with_groups(root: Path, *, tries: int = _REMOVE_TRIES) -> None:
    """Removes a server's directory and the guests' groups in it, as far as they are empty."""
    for child in _directories(root):
        _remove(child, tries=tries)
    _remove(root, tries=tries)


def _directories(root: Path) -> list[Path]:
    try:
        return [child for child in root.iterdir() if child.is_dir()]
    except OSError:
        return []


def _remove(directory: Path, *, tries: int = _REMOVE_TRIES) -> bool:
    for attempt in range(tries):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if attempt + 1 < tries:
                time.sleep(_REMOVE_PAUSE_SECONDS)
        else:
            return True
    return False
