"""The zygote process: sets up what all guests share, preloads, then forks guests on the host's order.

Started by exec with an empty environment; never imports grpc, holds no secret, has one thread.
"""

import contextlib
import os
import signal
import socket
import sys
from typing import NoReturn

from sandboxd.channel.orders import (
    MAX_ORDER_BYTES,
    HostOrder,
    IdsMapped,
    NeedIdMap,
    StartZygote,
    ZygoteFailed,
    decode_order,
    encode_order,
)
from sandboxd.isolation import credentials, mounts, namespaces, runtime_files, syscalls
from sandboxd.isolation.plan import OOM_SCORE_ADJUSTMENT, IsolationPlan


def main() -> None:
    """Runs until the host closes the control socket or dies."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    syscalls.die_with_parent(signal.SIGKILL)
    order = _receive(control)
    if not isinstance(order, StartZygote):
        raise TypeError(f"the first order must be StartZygote, not {type(order).__name__}")
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _volunteer_for_the_oom_killer(proc)
    try:
        if order.plan.namespaces:
            _enter_shared_layers(order.plan, control=control, proc=proc)
            _become_pid_1(control)
    except ConnectionError:
        _end_without_host()
    except OSError as error:
        _report_failure(control, error)
        raise
    if order.plan.may_drop_bounding_set:
        credentials.drop_bounding_set()  # the zygote never execs; guests inherit the empty set
    # Only now: it brings numpy and pandas, which the process that waits for pid 1 would hold a second time.
    from sandboxd.zygote.forkserver import Forkserver

    try:
        Forkserver(control=control, plan=order.plan, proc=proc).run()
    except ConnectionError:
        _end_without_host()


def _receive(control: socket.socket) -> HostOrder:
    packet = control.recv(MAX_ORDER_BYTES)
    return decode_order(packet) if packet else _end_without_host()


def _report_failure(control: socket.socket, error: OSError) -> None:
    try:
        control.send(encode_order(ZygoteFailed(step="shared layers", problem=str(error))))
    except ConnectionError:
        _end_without_host()


def _end_without_host() -> NoReturn:
    """A server that is stopped while it starts needs no traceback on its terminal."""
    os._exit(0)


def _volunteer_for_the_oom_killer(proc: int) -> None:
    """When the machine itself runs out of memory, guests go before the server does."""
    with contextlib.suppress(OSError):  # a read-only /proc, as in some containers
        descriptor = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            os.write(descriptor, str(OOM_SCORE_ADJUSTMENT).encode())
        finally:
            os.close(descriptor)


def _enter_shared_layers(plan: IsolationPlan, *, control: socket.socket, proc: int) -> None:
    """The read-only root, and the namespaces that all guests share.

    With a mapped range of ids the root is built by the real superuser first: a Python below a mode 700
    home could not be reached from inside the user namespace.
    """
    if plan.own_map:
        namespaces.enter_user_namespace_as(0, process_directory=proc)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    mounts.make_private()
    mounts.enter_read_only_root(binds=runtime_files.readable_paths(), hidden=runtime_files.hidden_paths())
    if plan.user_namespace and not plan.own_map:
        namespaces.enter_user_namespace()
        control.send(encode_order(NeedIdMap()))
        if not isinstance(_receive(control), IdsMapped):
            raise OSError("the host did not map the ids")
        credentials.become(0)
        syscalls.die_with_parent(signal.SIGKILL)  # cleared by the change of credentials
    namespaces.enter_family_namespaces()


def _become_pid_1(control: socket.socket) -> None:
    """Returns in a child that is pid 1 of the family's pid namespace; the parent waits for its end."""
    child = os.fork()
    if child:
        control.close()
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    syscalls.die_with_parent(signal.SIGKILL)


if __name__ == "__main__":
    main()
