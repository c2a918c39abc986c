"""One guest as the host holds it: its life, and who takes what it says. Everything it says is hostile."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from sandboxd.channel.framing import Outgoing
from sandboxd.channel.messages import GuestMessage, HostMessage
from sandboxd.supervisor import pidfds
from sandboxd.supervisor.cgroups import Cgroup
from sandboxd.supervisor.family import Family
from sandboxd.supervisor.fork_gate import ForkGate
from sandboxd.supervisor.guest_channel import GuestChannel
from sandboxd.supervisor.guest_exit import (
    OUT_OF_MEMORY,
    ZYGOTE_DIED,
    GuestExit,
    GuestSink,
    NobodyListens,
    OutputStream,
    status_of_unreaped,
)
from sandboxd.supervisor.handshake import Handshake, refuse
from sandboxd.supervisor.output_pipes import OutputPipes
from sandboxd.supervisor.waiting import first_of

_REAP_REPORT_SECONDS = 2.0
_EOF_GRACE_SECONDS = 1.0
"""A dying process closes its channel first; on a busy machine its death is seen much later."""
_KILLED_STATUSES = (signal.SIGKILL, None)
"""What an OOM kill looks like; None where the kernel does not tell."""
_ZYGOTE_NEWS_SECONDS = 0.03


class GuestProcess:
    """Owns the descriptors of one guest. One sink at a time; the exit is a future that always resolves."""

    def __init__(
        self,
        *,
        guest_id: int,
        family: Family,
        channel: socket.socket,
        stdout: int,
        stderr: int,
        copy_of: "GuestProcess | None" = None,
    ) -> None:
        self.guest_id = guest_id
        self.family = family
        self.copy_of: int = copy_of.pid if copy_of else 0
        """Process id of the guest that forked it; 0 for one that the zygote made."""
        self.parked = copy_of is not None
        """It waits to become a session and runs no user code."""
        self.outdated = False
        """A later copy of the same session is parked."""
        self.expendable = False
        """A copy that only answers a question."""
        self.copying = asyncio.Lock()
        """Held while it is ordered to copy itself; branches share kept states."""
        self.pidfd = -1
        self.pid: int = -1
        """As the host sees it; only for reading /proc and for the fork gate, never for signals."""
        self.base_anonymous_bytes: int = copy_of.base_anonymous_bytes if copy_of else 0
        """Its anonymous memory when it became ready, most of it shared with its zygote."""
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[GuestExit] = loop.create_future()
        self._loop = loop
        self._channel = GuestChannel(channel, fail=self.kill, ended=self._channel_ended)
        self._output = OutputPipes(stdout=stdout, stderr=stderr, take=self._take_output)
        self._stray: GuestSink = NobodyListens()
        self._sink: GuestSink = self._stray
        self._killed_for = ""
        self._seen_dead = False
        self._grace: asyncio.TimerHandle | None = None
        self._finishing = False
        self._status: int | None = None
        self._cpu_nanos = 0
        self._reaped: asyncio.Future[None] = loop.create_future()
        self._on_gone: list[Callable[[GuestProcess], None]] = []
        if copy_of:
            self._channel.max_frame_bytes = copy_of._channel.max_frame_bytes
        self.greeting = Handshake(self, self._channel).over
        """Done once it has greeted; its exception says what failed."""

    # --- life ------------------------------------------------------------------------------------

    @property
    def cgroup(self) -> Cgroup | None:
        """The control group, shared with its family."""
        return self.family.cgroup

    @property
    def gate(self) -> ForkGate | None:
        """The fork gate, shared with its family."""
        return self.family.gate

    def adopt(self, pidfd: int) -> None:
        """The process exists: watch it. Takes over the descriptor."""
        if self.exited.done():  # it said that its set-up failed before the zygote said that it exists
            pidfds.send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            return
        self.pidfd = pidfd
        self.pid = pidfds.pid_of(pidfd)
        self.family.join(self)
        self._loop.add_reader(pidfd, self._died)
        self._output.resume()
        self._measure_base()

    def _measure_base(self) -> None:
        """Once it has greeted and is known: which of the two comes first is open."""
        if not self.copy_of and self.pid > 0 and self.greeting.done():
            self.base_anonymous_bytes = pidfds.anonymous_bytes(self.pid)

    async def ready(self) -> None:
        """Waits for the greeting; `GuestSetupFailed` when a step failed, and the guest is gone."""
        await asyncio.shield(self.greeting)

    def greeted(self) -> None:
        """Its greeting was right: what else it says is for whoever listens."""
        self._channel.read(self._sink_message)
        self._measure_base()

    async def until(self, answer: asyncio.Future[Any]) -> None:
        """Waits for `answer` or for the guest's end, whichever comes first."""
        await first_of(answer, self.exited)

    def when_gone(self, callback: Callable[["GuestProcess"], None]) -> None:
        """Calls `callback` once the guest is dead and reaped."""
        if self.exited.done():
            callback(self)
        else:
            self._on_gone.append(callback)

    @property
    def alive(self) -> bool:
        """Whether it has not been seen dead and nobody has killed it."""
        return not self._killed_for and not self.exited.done() and self.pidfd >= 0

    def interrupt(self) -> None:
        """SIGINT: a KeyboardInterrupt in user code."""
        if self.pidfd >= 0:
            pidfds.send_signal(self.pidfd, signal.SIGINT)

    def wake(self) -> None:
        """SIGUSR1: a debugged program looks for commands. Without a debugger it would end the guest."""
        if self.pidfd >= 0:
            pidfds.send_signal(self.pidfd, signal.SIGUSR1)

    def kill(self, reason: str) -> None:
        """SIGKILL; `exited` resolves within milliseconds. The first reason is the one that counts."""
        self._killed_for = self._killed_for or reason
        if self.copy_of and self.pidfd >= 0:  # nobody reports it afterwards
            self._cpu_nanos = self._cpu_nanos or pidfds.cpu_nanos(self.pid)
        if self.pidfd >= 0 and not pidfds.send_signal(self.pidfd, signal.SIGKILL):
            return
        if self.pidfd < 0:
            self._finish()

    def reaped(self, status: int, *, cpu_nanos: int) -> None:
        """The zygote's report of the exit status and the CPU time."""
        self._status = status
        self._cpu_nanos = cpu_nanos
        self._reaped.set_result(None)

    # --- talking ---------------------------------------------------------------------------------

    def send(self, message: Outgoing) -> None:
        """Queues a message; what a dead guest does not take is dropped."""
        self._channel.send(message)

    def send_beside(self, message: HostMessage, descriptors: list[int]) -> None:
        """Sends a message at once with `descriptors` beside it; OSError when it can't be sent whole."""
        self._channel.send_beside(message, descriptors)

    def listen(self, sink: GuestSink | None) -> None:
        """Makes `sink` the one who takes messages and output; None for nobody."""
        self._sink = sink or self._stray
        self._output.resume()

    def tells(self, sink: GuestSink) -> bool:
        """Whether `sink` is the one who takes them now."""
        return self._sink is sink

    def pause_channel(self) -> None:
        """Stops reading messages; the guest blocks in send(2) once its socket is full."""
        self._channel.pause()

    def resume_channel(self) -> None:
        """Reads them again."""
        if not self.exited.done():
            self._channel.resume()

    def drain_output(self) -> None:
        """Hands over what the pipes hold right now, so that output precedes the end of an execution."""
        self._output.drain()

    def accept_frames_of(self, max_bytes: int) -> None:
        """Sets the longest frame the host takes from this guest."""
        self._channel.max_frame_bytes = max_bytes

    # --- internals -------------------------------------------------------------------------------

    def _channel_ended(self) -> None:
        """Dying does that too; only a guest that lives on without a channel is killed for it."""
        self._grace = self._loop.call_later(_EOF_GRACE_SECONDS, self._kill_without_channel)

    def _kill_without_channel(self) -> None:
        if self.exited.done() or self.pidfd < 0 or self._seen_dead:
            return
        if pidfds.is_exiting(self.pid):  # slow, on a busy machine: it should tell its own reason
            self._grace = self._loop.call_later(_EOF_GRACE_SECONDS, self._kill_without_channel)
            return
        self.kill("closed its channel")

    def _sink_message(self, message: GuestMessage) -> None:
        self._sink.message(message)

    def _take_output(self, stream: OutputStream, data: bytes) -> bool:
        self._sink.output(stream, data)
        return self._sink is not self._stray

    def _died(self) -> None:
        self._seen_dead = True
        self._loop.remove_reader(self.pidfd)
        self._loop.create_task(self._bury())

    async def _bury(self) -> None:
        if self.copy_of:
            self._status = await status_of_unreaped(self.pidfd)
            if self._status in _KILLED_STATUSES and not self._killed_for:
                # The end of the zygote ends every guest; the news of it may come a moment later.
                await first_of(self.family.zygote.died, seconds=_ZYGOTE_NEWS_SECONDS)
            self._finish()
            return
        # A dead zygote reports nothing.
        await first_of(self._reaped, self.family.zygote.died, seconds=_REAP_REPORT_SECONDS)
        self._finish()

    def _finish(self) -> None:
        if self._finishing:
            return
        self._finishing = True  # its last words may be a reason to end it once more
        if self._channel.reading:
            self._channel.last_words()
        self.drain_output()
        if self.family.zygote.died.done():
            self._killed_for = self._killed_for or ZYGOTE_DIED
        group = self.cgroup
        oom = self._killed_for == OUT_OF_MEMORY or (
            not self._killed_for and self._status in _KILLED_STATUSES and self.family.claim_oom_kill()
        )
        refuse(self.greeting, "start", "the guest died before it was ready")
        self._close()
        self.exited.set_result(
            GuestExit(
                status=self._status,
                killed_for=self._killed_for,
                oom_killed=oom,
                cpu_nanos=self._cpu_nanos,
                peak_memory_bytes=group.peak_memory_bytes() if group else 0,
            )
        )
        for callback in self._on_gone:
            callback(self)
        self._on_gone.clear()
        self.family.leave(self)

    def _close(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        self._channel.close()
        self._output.close()
        if self.pidfd >= 0:
            self._loop.remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1
