"""Namespaces: one user and pid namespace for the zygote's family, the rest for each guest anew."""

import errno
import os
import socket

from sandboxd.isolation import syscalls

NOT_AVAILABLE = frozenset({errno.EPERM, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.ENOSYS, errno.EACCES})
"""Errors that mean "this host does not give namespaces"; ENOSPC is what a forbidden user namespace says."""


def enter_user_namespace() -> None:
    """A new user namespace; its id maps are still to be written, by this process or by its parent."""
    syscalls.unshare(syscalls.CLONE_NEWUSER)


def enter_user_namespace_as(inside: int, *, process_directory: int) -> None:
    """A new user namespace with the caller's own user and group id mapped to `inside`, as an unprivileged
    process may.

    `process_directory` is a descriptor of a /proc that shows the caller. Written by os.write: a buffered
    file hides the EPERM that comes at close.
    """
    uid, gid = os.geteuid(), os.getegid()  # asked before: inside they read as nobody's until they are mapped
    enter_user_namespace()
    _write("self/setgroups", "deny", directory=process_directory)
    _write("self/uid_map", f"{inside} {uid} 1", directory=process_directory)
    _write("self/gid_map", f"{inside} {gid} 1", directory=process_directory)


def map_id_range(pid: int, *, base: int, count: int) -> None:
    """Maps `count` ids from 0 to `base` for process `pid`; needs CAP_SETUID in the parent namespace."""
    _write(f"/proc/{pid}/uid_map", f"0 {base} {count}")
    _write(f"/proc/{pid}/gid_map", f"0 {base} {count}")


def _write(path: str, text: str, *, directory: int | None = None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def enter_family_namespaces() -> None:
    """Namespaces of the zygote: the next fork is pid 1 of the pid namespace."""
    syscalls.unshare(
        syscalls.CLONE_NEWPID
        | syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWUTS
        | syscalls.CLONE_NEWCGROUP
        | syscalls.CLONE_NEWNET
    )


def enter_guest_namespaces() -> None:
    """Namespaces of one guest; the pid namespace stays that of the family, so that a branch can outlive
    its origin."""
    syscalls.unshare(
        syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWUTS
        | syscalls.CLONE_NEWCGROUP
        | syscalls.CLONE_NEWNET
    )


def set_hostname(name: str) -> None:
    """The name user code sees instead of the machine's."""
    socket.sethostname(name)
