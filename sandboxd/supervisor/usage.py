"""What a guest used between two moments, read from outside: its own figures could be forged."""

from sandboxd.supervisor import pidfds
from sandboxd.supervisor.guest_process import GuestProcess


class UsageMeter:
    """Starts when made; `read` gives what was used since."""

    def __init__(self, guest: GuestProcess) -> None:
        self._guest = guest
        self._cpu_before = self._cpu_nanos()
        if guest.cgroup:
            guest.cgroup.reset_peak()

    def read(self) -> tuple[float, int]:
        """CPU seconds and peak bytes; 0 for what a dead guest without a control group can't tell."""
        cpu = max(0, self._cpu_nanos() - self._cpu_before) / 1e9
        if self._guest.exited.done():
            return cpu, self._guest.exited.result().peak_memory_bytes
        if self._guest.cgroup:
            return cpu, self._guest.cgroup.peak_memory_bytes()
        (peak,) = pidfds.status_bytes(self._guest.pid, "VmHWM")
        return cpu, max(0, peak - self._guest.base_resident_bytes)

    def _cpu_nanos(self) -> int:
        if self._guest.exited.done():
            return self._guest.exited.result().cpu_nanos
        return pidfds.cpu_nanos(self._guest.pid)
