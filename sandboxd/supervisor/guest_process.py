"""One guest as the host holds it: its channel, its output, its life. Everything it says is hostile."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from sandboxd.channel.framing import ChannelBroken, FrameBuffer, Outgoing, decode_guest_message, encode_frame
from sandboxd.channel.messages import Copied, ForkFailed, GuestMessage, HostMessage, Ready, SetupFailed
from sandboxd.errors import GuestSetupFailed
from sandboxd.supervisor import greetings, pidfds
from sandboxd.supervisor.backlog import Backlog
from sandboxd.supervisor.cgroups import Cgroup
from sandboxd.supervisor.family import Family
from sandboxd.supervisor.fork_gate import ForkGate
from sandboxd.supervisor.guest_exit import (
    ZYGOTE_DIED,
    GuestExit,
    GuestSink,
    NobodyListens,
    OutputStream,
    status_of_unreaped,
)
from sandboxd.supervisor.output_pipes import OutputPipes

_READ_BYTES = 256 * 1024
_REAP_REPORT_SECONDS = 2.0
_SETUP_FRAME_BYTES = 64 * 1024
_EOF_GRACE_SECONDS = 1.0
"""A dying process closes its channel first; on a busy machine its death is seen much later."""
_MAX_BACKLOG_BYTES = 32 * 1024 * 1024
"""Messages a guest has not read yet. More is for one that asks and asks and never listens."""
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
        self._channel = channel
        self._output = OutputPipes(stdout=stdout, stderr=stderr, take=self._take_output)
        self._readers: set[int] = set()
        self._frames = FrameBuffer(max_frame_bytes=_SETUP_FRAME_BYTES)
        self._outgoing = Backlog()
        self._stray: GuestSink = NobodyListens()
        self._sink: GuestSink = self._stray
        self._ready: asyncio.Future[None] = loop.create_future()
        self._killed_for = ""
        self._status: int | None = None
        self._cpu_nanos = 0
        self._reaped: asyncio.Future[None] = loop.create_future()
        self._on_gone: list[Callable[[GuestProcess], None]] = []
        channel.setblocking(False)
        if copy_of:
            self._frames.max_frame_bytes = copy_of._frames.max_frame_bytes
            greetings.ask_for_sender(channel)
        self._watch(channel.fileno(), self._greeting_readable)

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
        self._watch(pidfd, self._died)
        self._output.resume()
        self._measure_base()

    def _measure_base(self) -> None:
        """Once it has greeted and is known: which of the two comes first is open."""
        if not self.copy_of and self.pid > 0 and self._ready.done():
            self.base_anonymous_bytes = pidfds.anonymous_bytes(self.pid)

    async def ready(self) -> None:
        """Waits for the greeting; `GuestSetupFailed` when a step failed, and the guest is gone."""
        await asyncio.shield(self._ready)

    async def until(self, answer: asyncio.Future[Any]) -> None:
        """Waits for `answer` or for the guest's end, whichever comes first."""
        over: asyncio.Future[None] = self._loop.create_future()

        def end(_: asyncio.Future[Any]) -> None:
            if not over.done():
                over.set_result(None)

        # asyncio.wait does the same with three times the work, and every execution waits here.
        answer.add_done_callback(end)
        self.exited.add_done_callback(end)
        try:
            await over
        finally:
            answer.remove_done_callback(end)
            self.exited.remove_done_callback(end)

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
        if len(self._outgoing) > _MAX_BACKLOG_BYTES:
            self.kill("does not read its channel")
            return
        self._outgoing.add(message)
        self._flush()

    def send_beside(self, message: HostMessage, descriptors: list[int]) -> None:
        """Sends a message at once with `descriptors` beside it; OSError when it can't be sent whole."""
        if self._outgoing or self._channel.fileno() < 0:
            raise OSError(errno.EAGAIN, "the channel is not free")
        frame = encode_frame(message)
        if socket.send_fds(self._channel, [frame], descriptors) != len(frame):
            raise OSError(errno.EAGAIN, "the channel is full")

    def listen(self, sink: GuestSink | None) -> None:
        """Makes `sink` the one who takes messages and output; None for nobody."""
        self._sink = sink or self._stray
        self._output.resume()

    def tells(self, sink: GuestSink) -> bool:
        """Whether `sink` is the one who takes them now."""
        return self._sink is sink

    def pause_channel(self) -> None:
        """Stops reading messages; the guest blocks in send(2) once its socket is full."""
        if self._channel.fileno() >= 0:
            self._unwatch(self._channel.fileno())

    def resume_channel(self) -> None:
        """Reads them again."""
        if self._channel.fileno() >= 0 and not self.exited.done():
            self._watch(self._channel.fileno(), self._channel_readable)

    def drain_output(self) -> None:
        """Hands over what the pipes hold right now, so that output precedes the end of an execution."""
        self._output.drain()

    def accept_frames_of(self, max_bytes: int) -> None:
        """Sets the longest frame the host takes from this guest."""
        self._frames.max_frame_bytes = max_bytes

    # --- internals -------------------------------------------------------------------------------

    def _watch(self, descriptor: int, callback: Callable[..., None], *arguments: object) -> None:
        self._readers.add(descriptor)
        self._loop.add_reader(descriptor, callback, *arguments)

    def _unwatch(self, descriptor: int) -> None:
        if descriptor in self._readers:
            self._readers.discard(descriptor)
            self._loop.remove_reader(descriptor)

    def _greeting_readable(self) -> None:
        greeting = greetings.receive(self._channel, _SETUP_FRAME_BYTES)
        if greeting is None:
            return
        if greeting.sender >= 0:
            self._take_sender(greeting.sender)
        if greeting.descriptor >= 0:
            self._take_listener(greeting.descriptor)
        if not greeting.data:
            self._unwatch(self._channel.fileno())
            self._not_ready("start", "the guest closed its channel")
            return
        self._take(greeting.data, self._greet)

    def _take_sender(self, pidfd: int) -> None:
        """The sender is the copy if it is a process that nobody has known before."""
        pid = pidfds.pid_of(pidfd)
        known = {member.pid for member in self.family.members}
        if self.copy_of and self.pidfd < 0 and pid > 0 and pid not in known:
            self.adopt(pidfd)
        else:
            os.close(pidfd)

    def _take_listener(self, descriptor: int) -> None:
        if self.copy_of or self.family.gate is not None:
            os.close(descriptor)
        else:
            self.family.gate = ForkGate(descriptor)

    def _greet(self, message: GuestMessage) -> None:
        if self._ready.done():
            return
        if isinstance(message, SetupFailed):
            self._not_ready(message.step, message.problem)
        elif isinstance(message, ForkFailed) and self.copy_of:
            self._not_ready("too large" if message.too_large else "copy", message.problem[:500])
        elif self._is_greeting(message):
            self._unwatch(self._channel.fileno())
            self._watch(self._channel.fileno(), self._channel_readable)
            if self.copy_of:
                greetings.ask_for_sender(self._channel, wanted=False)
            self._ready.set_result(None)
            self._measure_base()
        else:
            raise ChannelBroken("no greeting")

    def _is_greeting(self, message: GuestMessage) -> bool:
        if self.copy_of:
            return isinstance(message, Copied) and message.fork_id == self.guest_id and self.pidfd >= 0
        return isinstance(message, Ready) and message.fork_gate == (self.gate is not None)

    def _not_ready(self, step: str, problem: str) -> None:
        self._refuse(step, problem)
        self.kill(f"set-up failed at {step}")

    def _refuse(self, step: str, problem: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(GuestSetupFailed(step=step, problem=problem))
            self._ready.exception()  # whoever waits sees it; nobody may be waiting

    def _channel_readable(self) -> None:
        try:
            data = self._channel.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._take(data, self._sink_message)
        else:
            self._unwatch(self._channel.fileno())
            # Dying closes it too; only a guest that lives on without a channel is killed for that.
            self._loop.call_later(_EOF_GRACE_SECONDS, self._kill_without_channel)

    def _kill_without_channel(self) -> None:
        if self.exited.done() or self.pidfd not in self._readers:
            return
        if pidfds.is_exiting(self.pid):  # slow, on a busy machine: it should tell its own reason
            self._loop.call_later(_EOF_GRACE_SECONDS, self._kill_without_channel)
            return
        self.kill("closed its channel")

    def _sink_message(self, message: GuestMessage) -> None:
        self._sink.message(message)

    def _take(self, data: bytes, consumer: Callable[[GuestMessage], None]) -> None:
        try:
            for body in self._frames.feed(data):
                consumer(decode_guest_message(body))
        except ChannelBroken as error:
            self._unwatch(self._channel.fileno())
            self.kill(f"broke the channel protocol: {error}")

    def _flush(self) -> None:
        if self._channel.fileno() < 0:
            return
        try:
            self._outgoing.send(self._channel)
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._channel.fileno(), self._flush)
            return
        except OSError:  # the guest is gone; its exit is reported elsewhere
            self._outgoing.clear()
        self._loop.remove_writer(self._channel.fileno())

    def _take_output(self, stream: OutputStream, data: bytes) -> bool:
        self._sink.output(stream, data)
        return self._sink is not self._stray

    def _died(self) -> None:
        self._unwatch(self.pidfd)
        self._loop.create_task(self._bury())

    async def _bury(self) -> None:
        if self.copy_of:
            self._status = await status_of_unreaped(self.pidfd)
            if self._status in _KILLED_STATUSES and not self._killed_for:
                # The end of the zygote ends every guest; the news of it may come a moment later.
                await asyncio.wait([self.family.zygote.died], timeout=_ZYGOTE_NEWS_SECONDS)
            self._finish()
            return
        either = [self._reaped, self.family.zygote.died]  # a dead zygote reports nothing
        await asyncio.wait(either, timeout=_REAP_REPORT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        self._finish()

    def _finish(self) -> None:
        if self.exited.done():
            return
        if self._channel.fileno() in self._readers:
            self._last_words()
        self.drain_output()
        if self.family.zygote.died.done():
            self._killed_for = self._killed_for or ZYGOTE_DIED
        group = self.cgroup
        oom = not self._killed_for and self._status in _KILLED_STATUSES and self.family.claim_oom_kill()
        self._refuse("start", "the guest died before it was ready")
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
        self.family.leave(self)

    def _last_words(self) -> None:
        """Reads what arrived before the death; a reader that is gone stops it."""
        for _ in range(64):
            before = self._channel.fileno() in self._readers
            with contextlib.suppress(OSError):
                data = self._channel.recv(_READ_BYTES)
                if data and before:
                    self._take(data, self._sink_message if self._ready.done() else self._greet)
                    continue
            return

    def _close(self) -> None:
        for descriptor in list(self._readers):
            self._unwatch(descriptor)
        if self._channel.fileno() >= 0:
            self._loop.remove_writer(self._channel.fileno())
            self._channel.close()
        self._output.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
