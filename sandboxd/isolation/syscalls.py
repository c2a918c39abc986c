"""Kernel calls that Python does not wrap, by ctypes; every failure is an OSError naming the call.

The packages on the index that wrap these are stale, and the guest may load no foreign code before it
is locked down.
"""

import ctypes
import os
import platform
import threading

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc_under_the_gil = ctypes.PyDLL(None, use_errno=True)
_main_thread = threading.main_thread()

# Numbers of asm/unistd_64.h (x86_64).
SYS_PIVOT_ROOT = 155
SYS_SECCOMP = 317
SYS_CLOSE_RANGE = 436
SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
SYS_CAPSET = 126

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
AT_FDCWD = -100
AT_RECURSIVE = 0x8000
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4


def require_supported_machine() -> None:
    """The system call numbers here and in the seccomp table are those of x86_64."""
    if platform.machine() != "x86_64":
        raise OSError(f"unsupported machine {platform.machine()}: only x86_64 has a system call table yet")


def syscall(name: str, number: int, *arguments: object) -> int:
    """A raw system call; `name` appears in the error."""
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        _raise(name)
    return result


def _raise(name: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{name}: {os.strerror(code)}")


def fork() -> int:
    """fork(2) without what Python's own does before and after it: 170 pages less are copied in the child.

    Only for a process with one thread: then the locks that os.fork makes anew are free, and nobody's
    `os.register_at_fork` runs, which in a guest would be user code. Generators of random numbers go on
    from where they were. glibc's handlers run, malloc's and OpenBLAS's among them.
    """
    pid = int(_libc_under_the_gil.fork())
    if pid < 0:
        _raise("fork")
    if pid == 0:
        _main_thread._native_id = threading.get_native_id()  # type: ignore[attr-defined]
    return pid


def unshare(flags: int) -> None:
    """unshare(2); os.unshare exists from Python 3.12 only."""
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        _raise("unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None
    )
    if result != 0:
        _raise(f"mount {kind or source} on {target}")


def umount_detach(target: str) -> None:
    """umount2(2) with MNT_DETACH."""
    if _libc.umount2(target.encode(), MNT_DETACH) != 0:
        _raise(f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    syscall("pivot_root", SYS_PIVOT_ROOT, new_root.encode(), put_old.encode())


class _MountAttr(ctypes.Structure):
    """struct mount_attr of linux/mount.h."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(path: str, attributes: int, *, recursive: bool = False) -> None:
    """mount_setattr(2): adds attributes. Unlike a remount it cannot clear flags locked by a parent
    user namespace, which would be EPERM."""
    attr = _MountAttr(attr_set=attributes)
    syscall(
        f"mount_setattr {path}",
        SYS_MOUNT_SETATTR,
        ctypes.c_int(AT_FDCWD),
        path.encode(),
        ctypes.c_uint(AT_RECURSIVE if recursive else 0),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )


def prctl(option: int, argument: int = 0, argument3: int = 0) -> int:
    """prctl(2)."""
    result = int(
        _libc.prctl(
            ctypes.c_int(option),
            ctypes.c_ulong(argument),
            ctypes.c_ulong(argument3),
            ctypes.c_ulong(0),
            ctypes.c_ulong(0),
        )
    )
    if result < 0:
        _raise(f"prctl {option}")
    return result


def close_range(first: int, last: int) -> None:
    """close_range(2): closes every descriptor from `first` to `last`."""
    syscall("close_range", SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0))


def die_with_parent(signal_number: int) -> None:
    """PR_SET_PDEATHSIG. Cleared by credential changes, so call it after the last one."""
    prctl(PR_SET_PDEATHSIG, signal_number)
