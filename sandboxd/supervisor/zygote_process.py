"""One zygote as the host holds it: started by exec, spoken to in packets, its guests known by number."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from sandboxd.channel.orders import (
    MAX_ORDER_BYTES,
    Exited,
    IdsMapped,
    NeedIdMap,
    Ping,
    Pong,
    Spawn,
    Spawned,
    SpawnFailed,
    StartZygote,
    ZygoteFailed,
    ZygoteReady,
    ZygoteReport,
    decode_report,
    encode_order,
)
from sandboxd.errors import GuestSetupFailed, ZygoteUnavailable
from sandboxd.isolation import namespaces
from sandboxd.isolation.plan import UID_BASE, UID_COUNT, IsolationPlan
from sandboxd.supervisor import pidfds
from sandboxd.supervisor.guest_exit import ZYGOTE_DIED
from sandboxd.supervisor.guest_process import GuestProcess

_START_SECONDS = 60.0
"""A cold disk and no compiled bytecode make the first import of pandas slow."""
_STOPPED_SECONDS = 0.5
"""A stopped process answers nobody: it is not given the time of a slow one."""
_SILENT_SECONDS = 10.0
"""A machine with many busy processes may keep a healthy zygote waiting for seconds."""
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # before numpy is imported, or a fork of a guest hangs in its handlers
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",  # arenas of 64 MB a thread would make the memory limit meaningless
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
}


class ZygoteProcess:
    """Owns one zygote and the numbering of its guests. `died` resolves when it is gone, and then every
    guest of it is gone too: it is pid 1 of their namespace, or their parent."""

    def __init__(self, plan: IsolationPlan) -> None:
        self.plan = plan
        self.python_version = ""
        self.packages: dict[str, str] = {}
        self.frozen_bytes = 0
        """Of its heap, in the form that makes forks cheap."""
        self.started_at = time.monotonic()
        self.spawn_count = 0
        self.guests: dict[int, GuestProcess] = {}
        self.base_data_bytes = 0
        """VmData and VmSize after preloading: what every guest has before it does anything."""
        self.base_address_space_bytes = 0
        self._loop = asyncio.get_running_loop()
        self.died: asyncio.Future[None] = self._loop.create_future()
        self.given_up = False
        """It does not answer; its guests live on, new ones come from another zygote."""
        self._asked_at = 0.0
        """When it was sent a `Ping` that it has not answered; 0 when it owes none."""
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._spawning: dict[int, asyncio.Future[int]] = {}
        self._pidfd = -1
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs:
            # From the main thread: the parent death signal fires at the end of the starting thread.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "sandboxd.zygote", str(theirs.fileno())],
                env=_ENVIRONMENT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                process_group=0,  # Ctrl-C in a terminal is for the server, which lets executions end
            )
        self._loop.add_reader(self._control.fileno(), self._readable)

    async def start(self) -> None:
        """Waits until it is preloaded; `ZygoteUnavailable` with the step that failed otherwise."""
        self._control.send(encode_order(StartZygote(plan=self.plan)))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self.kill()
            raise ZygoteUnavailable(problem=f"the zygote was not ready within {_START_SECONDS:g} s") from None
        except asyncio.CancelledError:
            self.kill()
            raise

    async def spawn(self, order: Spawn, guest: GuestProcess, descriptors: list[int]) -> None:
        """Orders the fork of `guest`; returns when its process exists. Closes `descriptors`."""
        made: asyncio.Future[int] = self._loop.create_future()
        try:
            if self.died.done() or self.given_up:
                raise ZygoteUnavailable(problem="the zygote died or does not answer")
            self.guests[order.guest_id] = guest
            self._spawning[order.guest_id] = made
            try:
                socket.send_fds(self._control, [encode_order(order)], descriptors)
            except OSError as error:
                raise ZygoteUnavailable(problem=f"the zygote takes no orders: {error}") from error
        except ZygoteUnavailable:
            self.forget(order.guest_id)
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self.spawn_count += 1
        try:
            guest.adopt(await made)
        except BaseException:
            if not made.done() or made.cancelled():
                made.cancel()
            self.forget(order.guest_id)
            raise
        guest.when_gone(lambda gone: self.forget(gone.guest_id))

    def look(self) -> bool:
        """Asks for a sign of life; False when the last one has been owed for too long."""
        if self._asked_at:
            owed = time.monotonic() - self._asked_at
            return owed < (_STOPPED_SECONDS if pidfds.is_stopped(self.pid) else _SILENT_SECONDS)
        with contextlib.suppress(OSError):  # a full socket: the answer to an earlier order is the sign
            self._control.send(encode_order(Ping()))
        self._asked_at = time.monotonic()
        return True

    def give_up(self) -> None:
        """Orders nothing more of it. Continued, it would still report how its guests end."""
        self.given_up = True
        self._fail_waiting("the zygote does not answer")
        if self._pidfd >= 0:
            pidfds.send_signal(self._pidfd, signal.SIGCONT)

    def kill(self) -> None:
        """Ends it and with it every guest."""
        if self._pidfd >= 0:
            pidfds.send_signal(self._pidfd, signal.SIGKILL)
        self._process.kill()
        self._gone()

    def retire(self) -> None:
        """Lets it end when it has no guest; a newer one serves new guests."""
        if not self.guests and not self.died.done():
            self.kill()

    @property
    def pid(self) -> int:
        """Process id of the zygote proper as the host sees it."""
        return pidfds.pid_of(self._pidfd) if self._pidfd >= 0 else -1

    def forget(self, guest_id: int) -> None:
        """A guest is gone."""
        self.guests.pop(guest_id, None)
        self._spawning.pop(guest_id, None)

    def _readable(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, MAX_ORDER_BYTES, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self.kill()
            return
        self._asked_at = 0.0
        self._take(decode_report(packet), descriptors)

    def _take(self, report: ZygoteReport, descriptors: list[int]) -> None:
        match report:
            case NeedIdMap():
                self._map_ids()
            case ZygoteReady():
                self._became_ready(report, descriptors[0])
            case ZygoteFailed():
                self._fail(f"{report.step}: {report.problem}")
            case Spawned():
                if descriptors:
                    self._made(report.guest_id, descriptors[0])
                else:  # EMFILE: recvmsg(2) drops what finds no room; the guest ends with its channel
                    self._not_made(report.guest_id, "descriptors", "no descriptor is free for its pidfd")
            case SpawnFailed():
                self._not_made(report.guest_id, "fork", report.problem)
            case Exited():
                guest = self.guests.get(report.guest_id)
                if guest:
                    guest.reaped(report.status, cpu_nanos=round(report.cpu_seconds * 1e9))
            case Pong():
                pass

    def _map_ids(self) -> None:
        try:
            namespaces.map_id_range(self._process.pid, base=UID_BASE, count=UID_COUNT)
        except OSError as error:
            self._fail(f"id map: {error}")
            return
        self._control.send(encode_order(IdsMapped()))

    def _became_ready(self, report: ZygoteReady, pidfd: int) -> None:
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, self._gone)
        self.python_version = report.python_version
        self.packages = report.packages
        self.frozen_bytes = report.frozen_bytes
        self.base_data_bytes, self.base_address_space_bytes = pidfds.status_bytes(
            self.pid, "VmData", "VmSize"
        )
        if not self._ready.done():
            self._ready.set_result(None)

    def _made(self, guest_id: int, pidfd: int) -> None:
        waiting = self._spawning.pop(guest_id, None)
        if waiting and not waiting.done():
            waiting.set_result(pidfd)
            return
        pidfds.send_signal(pidfd, signal.SIGKILL)  # whoever asked has gone away
        os.close(pidfd)

    def _not_made(self, guest_id: int, step: str, problem: str) -> None:
        waiting = self._spawning.pop(guest_id, None)
        if waiting and not waiting.done():
            waiting.set_exception(GuestSetupFailed(step=step, problem=problem))

    def _fail(self, problem: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ZygoteUnavailable(problem=f"the zygote could not be set up: {problem}"))
            self._ready.exception()
        self.kill()

    def _gone(self) -> None:
        if self.died.done():
            return
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self.died.set_result(None)
        self._fail_waiting("the zygote died")
        self._process.kill()  # the outer process, where there is one, only waits for the inner
        self._process.wait()
        for guest in list(self.guests.values()):
            guest.kill(ZYGOTE_DIED)

    def _fail_waiting(self, problem: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ZygoteUnavailable(problem=problem))
            self._ready.exception()
        for waiting in self._spawning.values():
            if not waiting.done():
                waiting.set_exception(ZygoteUnavailable(problem=problem))
        self._spawning.clear()
