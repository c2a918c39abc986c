"""What a guest used between two moments, read from outside: its own figures could be forged."""

from sandboxd.supervisor import pidfds
from sandboxd.supervisor.guest_process import GuestProcess


class UsageMeter:
    """Starts when made; `read` gives what was used since."""

    def __init__(self, guest: GuestProcess) -> None:
        self._guest = guest
        self._cpu_before = self._cpu_nanos()
        # A group counts the whole family, so a guest with copies is measured by itself.
        self._alone = guest.cgroup is not None and len(guest.family.members) == 1
        if guest.cgroup is not None:
            guest.cgroup.reset_peak()
        if not self._alone:
            pidfds.reset_peak(guest.pid)

    def read(self) -> tuple[float, int]:
        """CPU seconds and peak bytes; 0 for what a dead guest can't tell any more."""
        cpu = max(0, self._cpu_nanos() - self._cpu_before) / 1e9
        if self._guest.exited.done():
            return cpu, self._guest.exited.result().peak_memory_bytes
        if self._alone and self._guest.cgroup is not None:
            return cpu, self._guest.cgroup.peak_memory_bytes()
        peak, *shared = pidfds.status_bytes(self._guest.pid, "VmHWM", "RssFile", "RssShmem")
        return cpu, max(0, peak - sum(shared) - self._guest.base_anonymous_bytes)

    def _cpu_nanos(self) -> int:
        if self._guest.exited.done():
            return self._guest.exited.result().cpu_nanos
        return pidfds.cpu_nanos(self._guest.pid)
