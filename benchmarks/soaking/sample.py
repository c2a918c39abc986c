"""What a server under load holds at a moment, read from the kernel."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.leftovers import cgroups_of
from tests.support.serving import descendants, zygote_of


@dataclass(slots=True)
class Sample:
    """What the server holds at a moment."""

    seconds: float
    memory_mib: float
    zygote_mib: float
    descriptors: int
    processes: int
    groups: int


def take_sample(pid: int, started: float) -> Sample:
    """What server `pid` holds now; `started` is when the soak began, by the monotonic clock."""
    return Sample(
        seconds=time.monotonic() - started,
        memory_mib=_resident_mib(pid),
        zygote_mib=_zygote_mib(pid),
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        processes=len(descendants(pid)),
        groups=cgroups_of(pid),
    )


def _zygote_mib(server: int) -> float:
    try:
        return _resident_mib(zygote_of(server))
    except StopIteration:  # between one and the next
        return 0.0


def _resident_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
