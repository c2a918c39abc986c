"""The file system a guest sees: a read-only root with only what Python needs, and a workspace in memory."""

import os
from collections.abc import Iterable, Sequence

from sandboxd.isolation import syscalls

WORKSPACE = "/workspace"
"""The one writable directory of a guest."""

_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_TOP_LEVEL_LINKS = ("/lib", "/lib64", "/bin", "/sbin", "/usr/lib64")


def make_private() -> None:
    """Keeps every later mount of this namespace to itself."""
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)


def enter_read_only_root(*, binds: Sequence[str], hidden: Sequence[str]) -> None:
    """Makes a tmpfs root that holds `binds` (files or directories, at their own paths), enters it and
    drops the old root for good. `hidden` are directories below the binds that become empty but for the
    binds inside them: a Python without a virtual environment has everybody's packages below its own library.

    The parents of a bind are made anew with mode 755, so a Python below a mode 700 home works for any
    user id.
    """
    # Held open before the new root covers the place where it is mounted: a bind may lie below that place.
    inside = [path for path in binds if _below(path, hidden)]
    sources = _opened(_outermost(set(binds) - set(inside)))
    inner_sources = _opened(_outermost(inside))
    devices = _opened(_DEVICES)
    links = [(path, os.readlink(path)) for path in _TOP_LEVEL_LINKS if os.path.islink(path)]
    root = _mount_point()
    syscalls.mount("tmpfs", root, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=1m,nr_inodes=4096")
    os.makedirs(f"{root}{WORKSPACE}", mode=0o755)
    os.makedirs(f"{root}/empty", mode=0o755)
    for path, descriptor in sources:
        _bind(descriptor, f"{root}{path}", directory=os.path.isdir(path))
    for number, path in enumerate(hidden):
        if os.path.isdir(f"{root}{path}"):
            os.makedirs(f"{root}/empty/{number}", mode=0o755)
            syscalls.mount(f"{root}/empty/{number}", f"{root}{path}", "", syscalls.MS_BIND)
    for path, descriptor in inner_sources:
        _bind(descriptor, f"{root}{path}", directory=os.path.isdir(path))
    for path, target in links:
        if not os.path.lexists(f"{root}{path}"):
            os.makedirs(os.path.dirname(f"{root}{path}"), exist_ok=True)
            os.symlink(target, f"{root}{path}")
    for path, _ in devices:
        _make_mount_point(f"{root}{path}", directory=False)
    os.chdir(root)
    syscalls.mount_setattr(
        root,
        syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV,
        recursive=True,
    )
    for path, descriptor in devices:  # after the recursive nodev, which would make them unopenable
        syscalls.mount(f"/proc/self/fd/{descriptor}", f"{root}{path}", "", syscalls.MS_BIND)
        syscalls.mount_setattr(f"{root}{path}", syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC)
    for _, descriptor in [*sources, *inner_sources, *devices]:
        os.close(descriptor)
    syscalls.pivot_root(".", ".")
    syscalls.umount_detach(".")
    os.chdir("/")


def _opened(paths: Iterable[str]) -> list[tuple[str, int]]:
    return [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in paths]


def _below(path: str, directories: Sequence[str]) -> bool:
    return any(os.path.realpath(path).startswith(directory + "/") for directory in directories)


def _outermost(paths: Iterable[str]) -> list[str]:
    """The existing ones of `paths` that do not lie below another of them, resolved and sorted."""
    kept: list[str] = []
    for path in sorted({os.path.realpath(path) for path in paths if os.path.exists(path)}):
        if not kept or not path.startswith(kept[-1] + "/"):
            kept.append(path)
    return kept


def _mount_point() -> str:
    for path in ("/mnt", "/tmp", "/run"):  # noqa: S108  only covered by a mount, in a namespace of our own
        if os.path.isdir(path):
            return path
    raise FileNotFoundError("none of /mnt, /tmp, /run exists to mount the new root on")


def _bind(descriptor: int, target: str, *, directory: bool) -> None:
    _make_mount_point(target, directory=directory)
    syscalls.mount(f"/proc/self/fd/{descriptor}", target, "", syscalls.MS_BIND)


def _make_mount_point(target: str, *, directory: bool) -> None:
    os.makedirs(target if directory else os.path.dirname(target), mode=0o755, exist_ok=True)
    if not directory and not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def mount_workspace(*, size_bytes: int, inodes: int, uid: int) -> None:
    """A tmpfs for one guest. Its pages count against a memory cgroup but not against resource limits,
    so it has a size of its own."""
    syscalls.mount(
        "tmpfs",
        WORKSPACE,
        "tmpfs",
        syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC,
        f"mode=700,size={size_bytes},nr_inodes={inodes},uid={uid},gid={uid}",
    )
