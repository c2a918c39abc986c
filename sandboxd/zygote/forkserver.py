"""The zygote's loop: forks guests, reaps them, reports both to the host."""

import gc
import os
import select
import signal
import socket

from sandboxd.channel.orders import (
    MAX_ORDER_BYTES,
    Exited,
    Ping,
    Pong,
    Spawn,
    Spawned,
    SpawnFailed,
    ZygoteReady,
    ZygoteReport,
    decode_order,
    encode_order,
)
from sandboxd.guest import preload
from sandboxd.isolation import syscalls
from sandboxd.isolation.plan import IsolationPlan
from sandboxd.zygote import frozen_heap
from sandboxd.zygote.spawn import GuestDescriptors, GuestSetup, become_guest, set_process_defaults

_SPAWN_DESCRIPTORS = 3


class Forkserver:
    """Owns the preloaded heap that guests are copied from. One thread; nothing here blocks but poll."""

    def __init__(self, *, control: socket.socket, plan: IsolationPlan, proc: int) -> None:
        self._control = control
        self._setup = GuestSetup(plan=plan, proc=proc)
        self._guest_ids: dict[int, int] = {}
        """Guest id by pid, of the guests that live."""

    def run(self) -> None:
        """Preloads, announces itself and serves orders until the host hangs up."""
        set_process_defaults(self._setup)
        versions = preload.warm_up()
        self._runner = preload.prepare_runner(proc=self._setup.proc)
        gc.collect()
        gc.freeze()  # without it every gc.collect() in a guest copies the whole heap
        gc.disable()  # the zygote makes no garbage; guests switch it on again
        frozen_bytes = frozen_heap.freeze(proc=self._setup.proc)
        wakeup, notifier = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(notifier, warn_on_full_buffer=False)
        self._announce(versions, frozen_bytes)
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(wakeup, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll():
                if descriptor == wakeup:
                    _drain(wakeup)
                    self._reap()
                elif not self._serve_order():
                    return

    def _announce(self, versions: dict[str, str], frozen_bytes: int) -> None:
        pidfd = os.pidfd_open(os.getpid())
        python_version = versions.pop("python")
        self._report(
            ZygoteReady(python_version=python_version, packages=versions, frozen_bytes=frozen_bytes), pidfd
        )
        os.close(pidfd)

    def _report(self, report: ZygoteReport, descriptor: int | None = None) -> None:
        descriptors = [] if descriptor is None else [descriptor]
        socket.send_fds(self._control, [encode_order(report)], descriptors)

    def _serve_order(self) -> bool:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, MAX_ORDER_BYTES, _SPAWN_DESCRIPTORS)
        except ConnectionResetError:  # the host died with reports of ours unread
            return False
        if not packet:
            return False
        order = decode_order(packet)
        if isinstance(order, Spawn):
            self._spawn(order, descriptors)
        elif isinstance(order, Ping):
            self._report(Pong())
        return True

    def _spawn(self, order: Spawn, descriptors: list[int]) -> None:
        try:
            pid = syscalls.fork()
        except OSError as error:
            self._report(SpawnFailed(guest_id=order.guest_id, problem=str(error)))
        else:
            if pid == 0:
                become_guest(self._setup, order, GuestDescriptors(*descriptors), self._runner)
            self._guest_ids[pid] = order.guest_id
            pidfd = os.pidfd_open(pid)
            self._report(Spawned(guest_id=order.guest_id), pidfd)
            os.close(pidfd)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _reap(self) -> None:
        """Reaps every dead child; as pid 1 it also inherits those whose parent died first."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            guest_id = self._guest_ids.pop(pid, None)
            if guest_id is not None:
                self._report(
                    Exited(
                        guest_id=guest_id,
                        status=status,
                        cpu_seconds=usage.ru_utime + usage.ru_stime,
                        peak_memory_bytes=usage.ru_maxrss * 1024,
                    )
                )


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return
