"""Who a guest is: user and group ids, capabilities, no_new_privs, dumpability."""

import ctypes
import errno
import os

from sandboxd.isolation import syscalls

_CAPABILITY_VERSION_3 = 0x20080522


class _CapHeader(ctypes.Structure):
    """struct __user_cap_header_struct of linux/capability.h."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    """struct __user_cap_data_struct of linux/capability.h."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


# Made here and not for each guest: making an array's type alone copies 20 pages of a fork.
_OF_THIS_PROCESS = _CapHeader(version=_CAPABILITY_VERSION_3, pid=0)
_NO_CAPABILITIES = (_CapData * 2)()


def become(uid: int) -> None:
    """Takes the user and group id `uid` for good: groups first, user last, then verified."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (uid, uid, uid) or os.getgroups():
        raise OSError(errno.EPERM, "credentials did not change as ordered")


def drop_bounding_set() -> None:
    """Empties the bounding set, while CAP_SETPCAP is still there."""
    capability = 0
    while True:
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # beyond the kernel's last capability
                return
            raise
        capability += 1


def drop_capabilities() -> None:
    """Empties the ambient, effective, permitted and inheritable sets."""
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    syscalls.syscall(
        "capset", syscalls.SYS_CAPSET, ctypes.byref(_OF_THIS_PROCESS), ctypes.byref(_NO_CAPABILITIES)
    )


def set_no_new_privs() -> None:
    """PR_SET_NO_NEW_PRIVS: no exec ever gains a privilege; seccomp and Landlock need it."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(*, dumpable: bool) -> None:
    """PR_SET_DUMPABLE: 0 keeps equal-uid processes from ptrace and from /proc/PID/mem."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, int(dumpable))
