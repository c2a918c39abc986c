"""Landlock: what of the file system, of TCP and of other processes a guest may reach.

The best layer where there are no namespaces: it alone stops reading another process's memory through
/proc, signals to it and abstract sockets. Source: linux/landlock.h, Documentation/userspace-api/landlock.rst.
"""

import ctypes
import errno
import os
from collections.abc import Sequence

from sandboxd.isolation import syscalls

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
_MAKE_CHAR = 1 << 6
_MAKE_DIR = 1 << 7
_MAKE_REG = 1 << 8
_MAKE_SOCK = 1 << 9
_MAKE_FIFO = 1 << 10
_MAKE_BLOCK = 1 << 11
_MAKE_SYM = 1 << 12
_REFER = 1 << 13  # ABI 2
_TRUNCATE = 1 << 14  # ABI 3
_IOCTL_DEV = 1 << 15  # ABI 5
_NET_BIND_TCP = 1 << 0  # ABI 4
_NET_CONNECT_TCP = 1 << 1
_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0  # ABI 6
_SCOPE_SIGNAL = 1 << 1

_FS_RIGHTS_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_FS_RIGHTS_NEWEST = (1 << 16) - 1

_READ_ONLY_DIRECTORY = _READ_FILE | _READ_DIR
_WRITABLE_DIRECTORY = (
    _READ_FILE
    | _READ_DIR
    | _WRITE_FILE
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_SYM
    | _REFER
    | _TRUNCATE
)
_FILE_RIGHTS = _READ_FILE | _WRITE_FILE | _EXECUTE | _TRUNCATE | _IOCTL_DEV


class _RulesetAttr(ctypes.Structure):
    """struct landlock_ruleset_attr."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    """struct landlock_path_beneath_attr, packed as the kernel has it."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi_version() -> int:
    """The kernel's Landlock ABI; 0 where it is not built or switched off.

    Asked by system call: the LSM list in securityfs is often not mounted.
    """
    try:
        return syscalls.syscall(
            "landlock_create_ruleset",
            syscalls.SYS_LANDLOCK_CREATE_RULESET,
            None,
            ctypes.c_size_t(0),
            ctypes.c_uint32(_CREATE_RULESET_VERSION),
        )
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def restrict(*, abi: int, read_only: Sequence[str], writable: Sequence[str]) -> None:
    """Confines the calling process for good; needs no_new_privs. No TCP, no signal to the outside.

    The ruleset is made here and not shared between guests: rules accumulate in a shared one, and a rule
    made before the workspace is mounted would not apply to it.
    """
    fs_rights = _FS_RIGHTS_OF_ABI.get(abi, _FS_RIGHTS_NEWEST)
    attr = _RulesetAttr(
        handled_access_fs=fs_rights,
        handled_access_net=_NET_BIND_TCP | _NET_CONNECT_TCP if abi >= 4 else 0,
        scoped=_SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if abi >= 6 else 0,
    )
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = syscalls.syscall(
        "landlock_create_ruleset",
        syscalls.SYS_LANDLOCK_CREATE_RULESET,
        ctypes.byref(attr),
        ctypes.c_size_t(size),
        ctypes.c_uint32(0),
    )
    try:
        for path in read_only:
            _allow_beneath(ruleset, path, _READ_ONLY_DIRECTORY & fs_rights)
        _allow_beneath(ruleset, os.devnull, (_READ_FILE | _WRITE_FILE) & fs_rights)
        for path in writable:
            _allow_beneath(ruleset, path, _WRITABLE_DIRECTORY & fs_rights)
        syscalls.syscall(
            "landlock_restrict_self",
            syscalls.SYS_LANDLOCK_RESTRICT_SELF,
            ctypes.c_int(ruleset),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(ruleset)


def _allow_beneath(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        attr = _PathBeneathAttr(allowed_access=rights, parent_fd=descriptor)
        syscalls.syscall(
            f"landlock_add_rule {path}",
            syscalls.SYS_LANDLOCK_ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_RULE_PATH_BENEATH),
            ctypes.byref(attr),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(descriptor)
