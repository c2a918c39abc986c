"""What a server holds at a moment: descriptors, processes, control groups, mounts. Equal before and after."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.02
_SETTLED_SECONDS = 0.3


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Polls until `condition` holds; returns after how many seconds, or fails naming `what`."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - started


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Counts of what a leak would change."""

    descriptors: int
    processes: int
    zombies: int
    cgroups: int
    mounts: int

    @classmethod
    def of(cls, pid: int) -> "Leftovers":
        """What server `pid` holds now."""
        tree = _tree(pid)
        return cls(
            descriptors=_descriptors(pid),
            processes=len(tree),
            zombies=sum(_is_zombie(member) for member in tree),
            cgroups=cgroups_of(pid),
            mounts=sum(_mounts(member) for member in tree),
        )


def settled(pid: int, *, seconds: float = 10) -> Leftovers:
    """What server `pid` holds once that has stopped changing."""
    deadline = time.monotonic() + seconds
    last = Leftovers.of(pid)
    while time.monotonic() < deadline:
        time.sleep(_SETTLED_SECONDS)
        now = Leftovers.of(pid)
        if now == last and not now.zombies:
            return now
        last = now
    raise AssertionError(f"server {pid} never comes to rest: {last}")


def assert_nothing_left(pid: int, before: Leftovers, *, seconds: float = 5) -> None:
    """Fails when server `pid` does not come back to what it held before."""
    deadline = time.monotonic() + seconds
    while (now := Leftovers.of(pid)) != before:
        assert time.monotonic() < deadline, f"before: {before}\nafter:  {now}"
        time.sleep(_POLL_SECONDS)


def cgroups_of(pid: int) -> int:
    """Control groups that server `pid` made for guests."""
    return sum(_directories(root) for root in cgroup_roots(pid))


def cgroup_roots(pid: int) -> list[Path]:
    """The directories of server `pid`, one a controller."""
    found: list[Path] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for mount in (controllers, controllers.split(",")[0], ""):
            root = Path(f"/sys/fs/cgroup/{mount}{path}") / f"sandboxd-{pid}"
            if root.is_dir() and root not in found:
                found.append(root)
    return found


def _directories(root: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(child.is_dir() for child in root.iterdir())
    return 0


def _tree(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *_tree(int(child))]
    return found


def _descriptors(pid: int) -> int:
    """Open descriptors but those of the history, whose files come and go when it tidies up."""
    found = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found += "/history/" not in os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _mounts(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    return 0
