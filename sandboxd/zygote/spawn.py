"""From fork to guest: every layer in order, each step named. A step that fails ends the child.

The order matters: mounts before Landlock (a rule does not follow a later mount), ids before the parent
death signal (a change of ids clears it), the filter last (it forbids most of what comes before).
"""

import _signal  # type: ignore[import-not-found]  # without the enumerations of `signal`, which would cost every guest 25 pages
import fcntl
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

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
_SIGKILL = int(signal.SIGKILL)
_INNER_UID = 1000
"""What a guest is inside a user namespace of its own."""


@dataclass(frozen=True, slots=True)
class GuestDescriptors:
    """The descriptors that the host made for one guest."""

    channel: int
    stdout: int
    stderr: int


class GuestSetup:
    """What every guest's set-up has in common; made once, before the first fork."""

    def __init__(self, *, plan: IsolationPlan, proc: int) -> None:
        """`proc` is a descriptor of a /proc, for the id map of a guest's own user namespace."""
        self.plan = plan
        self.proc = proc
        self.filter_program = b""
        if plan.seccomp:
            self.filter_program = seccomp.assemble(fork_gate=plan.fork_gate, own_root=plan.namespaces)
        # In a root made for the purpose everything may be read; otherwise only what Python needs.
        self.readable = ("/",) if plan.namespaces else tuple(runtime_files.readable_paths())
        self.writable = (mounts.WORKSPACE,) if plan.namespaces else ()
        self.home = mounts.WORKSPACE if plan.namespaces else "/"
        self.steps = _steps(plan)
        """Every step by name, in order."""


Step: TypeAlias = Callable[[GuestSetup, Spawn, GuestDescriptors], object]


def set_process_defaults(setup: GuestSetup) -> None:
    """What every guest takes over as it is: environment, file mode mask, size of thread stacks. Set once in
    the zygote, for each page that is written after the fork costs every guest."""
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(HOME=setup.home, TMPDIR=setup.home, LANG="C.UTF-8", TZ="UTC")
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
    for name, step in setup.steps:
        try:
            if name == order.fault_step:
                raise OSError(f"step {name} was made to fail")
            step(setup, order, descriptors)
        except BaseException as error:  # noqa: BLE001  fail closed, whatever it is
            _die_of_setup(descriptors.channel, name, error)
    return socket.socket(fileno=_CHANNEL)


def _steps(plan: IsolationPlan) -> list[tuple[str, Step]]:
    found: list[tuple[str, Step]] = [("session", _own_session)]
    if plan.namespaces:
        if plan.own_map:
            # A new user namespace fills the bounding set again, which the zygote had emptied.
            found += [("user_namespace", _own_user_namespace), ("bounding_set", _drop_bounding_set)]
        found += [("namespaces", _enter_namespaces), ("workspace", _mount_workspace)]
        found.append(("hostname", _set_hostname))
    found.append(("rlimits", _set_limits))
    if plan.uid_per_guest:
        found.append(("credentials", _become))
    found += [
        ("capabilities", _drop_capabilities),
        ("parent_death", _die_with_zygote),
        ("dumpable", _hide_memory),
        ("process_state", _clean_process_state),
        ("no_new_privs", _set_no_new_privs),
    ]
    if plan.landlock_abi:
        found.append(("landlock", _confine))
    return [*found, ("descriptors", _keep_only), ("seccomp", _filter_and_greet)]


# Each step is a function of the module and none is made for a guest: see `set_process_defaults`.


def _own_session(_setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    os.setsid()


def _own_user_namespace(setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    namespaces.enter_user_namespace_as(_INNER_UID, process_directory=setup.proc)


def _drop_bounding_set(_setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    credentials.drop_bounding_set()


def _enter_namespaces(_setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    namespaces.enter_guest_namespaces()


def _mount_workspace(_setup: GuestSetup, order: Spawn, _descriptors: GuestDescriptors) -> None:
    mounts.mount_workspace(
        size_bytes=order.workspace_bytes,
        inodes=order.workspace_inodes,
        uid=order.uid or os.getuid(),
    )


def _set_hostname(_setup: GuestSetup, order: Spawn, _descriptors: GuestDescriptors) -> None:
    namespaces.set_hostname(order.hostname)


def _set_limits(_setup: GuestSetup, order: Spawn, _descriptors: GuestDescriptors) -> None:
    rlimits.apply(order.limits)


def _become(_setup: GuestSetup, order: Spawn, _descriptors: GuestDescriptors) -> None:
    if not order.uid:
        raise OSError("no user id was ordered")
    credentials.become(order.uid)


def _drop_capabilities(_setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    credentials.drop_capabilities()


def _die_with_zygote(_setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    syscalls.die_with_parent(_SIGKILL)


def _hide_memory(_setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    credentials.set_dumpable(dumpable=False)


def _clean_process_state(setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    """Neither the zygote's directory nor its randomness is the guest's."""
    os.chdir(setup.home)
    reseed.reseed()


def _set_no_new_privs(_setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    credentials.set_no_new_privs()


def _confine(setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
    landlock.restrict(abi=setup.plan.landlock_abi, read_only=setup.readable, writable=setup.writable)


def _keep_only(_setup: GuestSetup, _order: Spawn, descriptors: GuestDescriptors) -> None:
    """Standard streams and the channel; everything else is closed.

    Copied above the targets first: the host's descriptors may have the numbers they are moved to.
    """
    sources = (
        os.open("/dev/null", os.O_RDONLY),
        descriptors.stdout,
        descriptors.stderr,
        descriptors.channel,
    )
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD, _CHANNEL + 1) for source in sources]
    for target, copy in enumerate(copies):
        os.dup2(copy, target, inheritable=True)
    syscalls.close_range(_CHANNEL + 1, _HIGHEST_DESCRIPTOR)


def _filter_and_greet(setup: GuestSetup, _order: Spawn, _descriptors: GuestDescriptors) -> None:
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
