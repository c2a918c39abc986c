"""The control groups of one server: where they are made, how other servers see that it lives, what is swept.

Each controller is used where the host has it, version 1 or 2; the groups are made below the server's
own, so that whoever runs the server goes on accounting for it.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from sandboxd.supervisor import kernel_files
from sandboxd.supervisor.cgroups import Cgroup, CgroupLimits, remove_with_groups

_CONTROLLERS = ("memory", "cpu")
"""No more than needed: each one makes attaching a guest dearer."""
_MOST_NAMESAKES = 100


class CgroupTree:
    """All groups of one server, below `sandboxd-PID` in the server's own groups."""

    def __init__(self, roots: dict[str, Path], *, version: int) -> None:
        self._roots = roots
        self.version = version
        self._holds: list[int] = []

    def hold(self) -> bool:
        """Shows other servers that this one lives, also those that can't see its process id. False when the
        groups are another's."""
        try:
            for root in set(self._roots.values()):
                descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._holds.append(descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.fstat(descriptor), root.stat()):
                    raise FileNotFoundError(root)  # swept between the two and made anew by another server
        except (BlockingIOError, FileNotFoundError):
            self._release()
            return False
        return True

    def _release(self) -> None:
        while self._holds:
            os.close(self._holds.pop())

    def create(self, name: str, limits: CgroupLimits) -> Cgroup:
        """A limited, empty group; an OSError leaves nothing behind."""
        directories = {controller: root / name for controller, root in self._roots.items()}
        group = Cgroup(directories, version=self.version)
        try:
            for directory in set(directories.values()):
                directory.mkdir()
            group.limit(limits)
        except OSError:
            for directory in set(directories.values()):
                with contextlib.suppress(OSError):
                    directory.rmdir()
            raise
        return group

    def remove(self) -> None:
        """Removes the tree; the groups in it must be empty."""
        for root in set(self._roots.values()):
            remove_with_groups(root)
        self._release()


def open_tree(*, sweep: bool = True) -> CgroupTree:
    """Makes the server's tree, version 2 first, or raises the OSError that tells why there is none.

    With `sweep` what servers that are gone left behind is removed first.
    """
    own = _own_groups()
    problems = []
    for version, parents in ((2, _parents_v2(own)), (1, _parents_v1(own))):
        missing = [name for name in _CONTROLLERS if name not in parents]
        if missing:
            problems.append(f"version {version} has no {', '.join(missing)}")
            continue
        try:
            if sweep:
                _sweep(parents.values())
            return _make_tree(parents, version=version)
        except OSError as error:
            problems.append(f"version {version}: {error}")
    raise OSError("; ".join(problems))


def _make_tree(parents: dict[str, Path], *, version: int) -> CgroupTree:
    if version == 2:
        _delegate(next(iter(parents.values())))
    tree, roots = _held_tree(parents, version=version)
    try:
        if version == 2:
            kernel_files.write(roots["memory"] / "cgroup.subtree_control", "+memory +cpu")
        trial = tree.create("probe", CgroupLimits(memory_bytes=1 << 26, cpu_percent=50))
        trial.remove()
    except OSError:
        tree.remove()
        raise
    return tree


def _held_tree(parents: dict[str, Path], *, version: int) -> tuple[CgroupTree, dict[str, Path]]:
    """Servers in different pid namespaces may have the same process id and see the same groups."""
    for number in range(_MOST_NAMESAKES):
        name = f"sandboxd-{os.getpid()}-{number}" if number else f"sandboxd-{os.getpid()}"
        roots = {controller: parent / name for controller, parent in parents.items()}
        for root in set(roots.values()):
            root.mkdir(exist_ok=True)
        tree = CgroupTree(roots, version=version)
        if tree.hold():
            return tree, roots
    raise OSError(f"{_MOST_NAMESAKES} servers have groups named sandboxd-{os.getpid()}")


def _delegate(parent: Path) -> None:
    """A version 2 group that gives controllers to its children may hold no process itself."""
    leaf = parent / "sandboxd-host"
    leaf.mkdir(exist_ok=True)
    kernel_files.write(leaf / "cgroup.procs", os.getpid())
    kernel_files.write(parent / "cgroup.subtree_control", "+memory +cpu")


def _own_groups() -> dict[str, str]:
    """Path of this process's group by controller; the empty name is version 2."""
    groups: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _parents_v1(own: dict[str, str]) -> dict[str, Path]:
    return {
        controller: path
        for controller in _CONTROLLERS
        if controller in own and (path := Path(f"/sys/fs/cgroup/{controller}{own[controller]}")).is_dir()
    }


def _parents_v2(own: dict[str, str]) -> dict[str, Path]:
    if "" not in own:
        return {}
    for mount in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        parent = Path(f"{mount}{own['']}")
        try:
            controllers = (parent / "cgroup.controllers").read_text().split()
        except OSError:
            continue
        if {"memory", "cpu"} <= set(controllers):
            return dict.fromkeys(_CONTROLLERS, parent)
    return {}


def _sweep(parents: Iterable[Path]) -> None:
    for parent in set(parents):
        for root in parent.glob("sandboxd-*"):
            pid = root.name.removeprefix("sandboxd-").partition("-")[0]
            # A server in another pid namespace has no entry in our /proc.
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                _remove_unless_held(root)


def _remove_unless_held(root: Path) -> None:
    """Held by us meanwhile: a server that begins with the same process id takes another name."""
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # gone meanwhile
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_with_groups(root, tries=1)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
