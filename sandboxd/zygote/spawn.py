"""From fork to guest: every layer in order, each step named. A step that fails ends the child.

The order matters: mounts before Landlock (a rule does not follow a later mount), ids before the parent
death signal (a change of ids clears it), the filter last (it forbids most of what comes before).
"""

import _signal  # type: ignore[import-not-found]  # without the enumerations of `signal`, which would cost every guest 25 pages
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from sandboxd.channel.framing import encode_frame
from sandboxd.channel.messages import Ready, SetupFailed
from sandboxd.channel.orders import Spawn
from sandboxd.guest import main as guest_main
from sandboxd.guest import reseed
from sandboxd.guest.runner import Runner
from sandboxd.isolation import (
    credentials,
    landlock,
    mounts,
    namespaces,
    rlimits,
    runtime_files,
    seccomp,
    syscalls,
)
from sandboxd.isolation.plan import IsolationPlan

_CHANNEL = 3
_HIGHEST_DESCRIPTOR = 0xFFFFFFFF
_EXIT_SETUP_FAILED = 70  # EX_SOFTWARE of sysexits.h
_THREAD_STACK_BYTES = 2 * 1024 * 1024
"""1 MB ends Python 3.13 with a segfault on the repr of a deep list; the default of 8 MB would count
against the memory limit."""
_INNER_UID = 1000
"""What a guest is inside a user namespace of its own."""


@dataclass(frozen=True, slots=True)
class GuestDescriptors:
    """The descriptors that the host made for one guest."""

    channel: int
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSetup:
    """What every guest's set-up has in common; made once, before the first fork."""

    plan: IsolationPlan
    proc: int
    """Descriptor of a /proc, for the id map of a guest's own user namespace."""
    filter_program: bytes = field(init=False)
    readable: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        program = b""
        if self.plan.seccomp:
            program = seccomp.assemble(fork_gate=self.plan.fork_gate, own_root=self.plan.namespaces)
        object.__setattr__(self, "filter_program", program)
        # In a root made for the purpose everything may be read; otherwise only what Python needs.
        readable = ("/",) if self.plan.namespaces else tuple(runtime_files.readable_paths())
        object.__setattr__(self, "readable", readable)


def set_process_defaults(plan: IsolationPlan) -> None:
    """What every guest takes over as it is: environment, file mode mask, size of thread stacks. Set once in
    the zygote, for each page that is written after the fork costs every guest."""
    os.umask(0o077)
    home = mounts.WORKSPACE if plan.namespaces else "/"
    os.environ.clear()
    os.environ.update(HOME=home, TMPDIR=home, LANG="C.UTF-8", TZ="UTC")
    threading.stack_size(_THREAD_STACK_BYTES)


def become_guest(setup: GuestSetup, order: Spawn, descriptors: GuestDescriptors, runner: Runner) -> NoReturn:
    """Turns the calling child into a guest and serves its channel until the host hangs up."""
    try:
        _signal.set_wakeup_fd(-1)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # dead checkpoints must not stay as zombies
        channel = _lock_down(setup, order, descriptors)
    except BaseException as error:  # noqa: BLE001  whatever it is, no user code may run
        _die_of_setup(descriptors.channel, "unknown", error)
    gc.enable()
    try:
        guest_main.serve(runner, channel)
    finally:
        os._exit(0)


def _lock_down(setup: GuestSetup, order: Spawn, descriptors: GuestDescriptors) -> socket.socket:
    for name, step in steps(setup, order, descriptors):
        try:
            if name == order.fault_step:
                raise OSError(f"step {name} was made to fail")
            step()
        except BaseException as error:  # noqa: BLE001  fail closed, whatever it is
            _die_of_setup(descriptors.channel, name, error)
    return socket.socket(fileno=_CHANNEL)


def steps(
    setup: GuestSetup, order: Spawn, descriptors: GuestDescriptors
) -> list[tuple[str, Callable[[], object]]]:
    """Every step by name, in order."""
    plan = setup.plan
    found: list[tuple[str, Callable[[], object]]] = [("session", os.setsid)]
    if plan.namespaces:
        if plan.own_map:
            # A new user namespace fills the bounding set again, which the zygote had emptied.
            found.append(("user_namespace", lambda: _own_user_namespace(setup.proc)))
            found.append(("bounding_set", credentials.drop_bounding_set))
        found += [
            ("namespaces", namespaces.enter_guest_namespaces),
            ("workspace", lambda: _mount_workspace(order)),
            ("hostname", lambda: namespaces.set_hostname(order.hostname)),
        ]
    found.append(("rlimits", lambda: rlimits.apply(order.limits)))
    if order.uid:
        found.append(("credentials", lambda: credentials.become(order.uid)))
    found += [
        ("capabilities", credentials.drop_capabilities),
        ("parent_death", _die_with_zygote),
        ("dumpable", lambda: credentials.set_dumpable(dumpable=False)),
        ("process_state", lambda: _clean_process_state(workspace=plan.namespaces)),
        ("no_new_privs", credentials.set_no_new_privs),
    ]
    if plan.landlock_abi:
        writable = (mounts.WORKSPACE,) if plan.namespaces else ()
        found.append(
            (
                "landlock",
                lambda: landlock.restrict(abi=plan.landlock_abi, read_only=setup.readable, writable=writable),
            )
        )
    found.append(("descriptors", lambda: _keep_only(descriptors)))
    found.append(("seccomp", lambda: _filter_and_greet(setup)))
    return found


def _own_user_namespace(proc: int) -> None:
    namespaces.enter_user_namespace_as(_INNER_UID, process_directory=proc)


def _mount_workspace(order: Spawn) -> None:
    mounts.mount_workspace(
        size_bytes=order.workspace_bytes,
        inodes=order.workspace_inodes,
        uid=order.uid or os.getuid(),
    )


def _die_with_zygote() -> None:
    syscalls.die_with_parent(signal.SIGKILL)


def _clean_process_state(*, workspace: bool) -> None:
    """Neither the zygote's directory nor its randomness is the guest's."""
    os.chdir(mounts.WORKSPACE if workspace else "/")
    reseed.reseed()


def _keep_only(descriptors: GuestDescriptors) -> None:
    """Standard streams and the channel; everything else is closed.

    Copied above the targets first: the host's descriptors may have the numbers they are moved to.
    """
    import fcntl

    sources = [
        os.open("/dev/null", os.O_RDONLY),
        descriptors.stdout,
        descriptors.stderr,
        descriptors.channel,
    ]
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD, _CHANNEL + 1) for source in sources]
    for target, copy in enumerate(copies):
        os.dup2(copy, target, inheritable=True)
    syscalls.close_range(_CHANNEL + 1, _HIGHEST_DESCRIPTOR)


def _filter_and_greet(setup: GuestSetup) -> None:
    """Loads the filter and tells the host; the fork gate's listener leaves this process with the greeting."""
    channel = socket.socket(fileno=_CHANNEL)
    try:
        greeting = encode_frame(Ready(fork_gate=setup.plan.fork_gate))
        listener = seccomp.install(setup.filter_program, listener=setup.plan.fork_gate)
        if listener is None:
            channel.sendall(greeting)
        else:
            socket.send_fds(channel, [greeting], [listener])
            os.close(listener)
    finally:
        channel.detach()


def _die_of_setup(channel: int, step: str, error: BaseException) -> NoReturn:
    """Says what failed on whichever number the channel has by now, and ends."""
    frame = encode_frame(SetupFailed(step=step, problem=f"{type(error).__name__}: {error}"[:500]))
    for descriptor in (channel, _CHANNEL):
        try:
            socket.socket(fileno=descriptor).sendall(frame)
            break
        except OSError:
            continue
    os._exit(_EXIT_SETUP_FAILED)
