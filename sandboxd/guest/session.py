"""The state of one guest, all of it: a fork of the process copies it, nothing else needs to be told."""

import gc
import mmap
import os
import select
import signal
import socket
import sys
import threading
import types
from collections import deque
from types import FrameType
from typing import Any

from sandboxd.channel.framing import encode_frame, receive_host_message
from sandboxd.channel.messages import CallReply, Configure, GuestMessage, HostMessage, LanguageRules
from sandboxd.guest.capture import Output
from sandboxd.guest.files import WorkspaceFiles
from sandboxd.guest.hot_pages import Range
from sandboxd.guest.interrupts import Interrupts, run_shielded
from sandboxd.guest.language import Language
from sandboxd.policy import ALLOWED_MODULES, BLOCKED_BUILTINS, BLOCKED_MODULES

_RESERVE_BYTES = 2 * 1024 * 1024
"""Given back when memory runs out, so that there is room to say so."""
_CALL_POLL_MS = 50
"""How soon a thread notices that another one has received its reply."""

UNCONFIGURED = Configure(
    rules=LanguageRules(
        restricted=True,
        allowed_modules=list(ALLOWED_MODULES),
        blocked_modules=list(BLOCKED_MODULES),
        blocked_builtins=list(BLOCKED_BUILTINS),
    ),
    enable_debugging=True,
    result_bytes=1024 * 1024,
    log_bytes=1024 * 1024,
)
"""What holds until the host has said what does: the defaults, which cost a guest nothing to confirm."""


class RunEnded(Exception):
    """A thread asked the host for something after its execution had ended."""


class Session:
    """Everything one guest knows. Used by the main thread; user threads may call `send` and `call`."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.configuration = UNCONFIGURED
        self.language = Language(UNCONFIGURED.rules)
        self.module = types.ModuleType("__main__")
        self.namespace: dict[str, Any] = self.module.__dict__
        self.builtins: dict[str, Any] = {}
        """Of user frames. One dict for the whole life: functions keep the one they were defined with."""
        self.namespace["__builtins__"] = self.builtins
        self.interrupts = Interrupts(self.namespace)
        self.output = Output()
        self.active_run: int | None = None
        """Id of the execution that runs now."""
        self.latest_run = 0
        """Id of the last execution that began."""
        self.hot_pages: list[Range] = []
        """What every execution writes to."""
        self.descriptors: list[int] = []
        """Received beside the host's last message and not yet taken."""
        self.workspace = os.environ.get("HOME", "/")
        """Directory of the session's files; a branch has its own."""
        self.kept_files: WorkspaceFiles | None = None
        """In a copy that waits: the files to put back."""
        self._send_lock = threading.Lock()
        self._receive_lock = threading.Lock()
        self._replies: dict[int, CallReply] = {}
        self._commands: deque[HostMessage] = deque()
        """What else the host said while an execution runs: commands of a debug session, orders to fork."""
        self._last_call_id = 0
        self._reserve: mmap.mmap | None = None

    def configure(self, configuration: Configure) -> None:
        """Sets what holds from the next execution on."""
        if configuration.rules != self.configuration.rules:
            self.language = Language(configuration.rules)
        self.configuration = configuration

    def user_line(self, frame: FrameType | None) -> int:
        """The 1-based line of the innermost user frame at or above `frame`; 0 when there is none."""
        while frame is not None:
            if frame.f_globals is self.namespace:
                return frame.f_lineno or 0
            frame = frame.f_back
        return 0

    def live_threads(self) -> int:
        """Threads beside the main thread that still run."""
        return threading.active_count() - 1

    def become_main(self) -> None:
        """Makes the namespace the `__main__` module, so that classes and annotations find themselves."""
        sys.modules["__main__"] = self.module
        self.interrupts.install()
        # The host wakes a debugged program with it; one that comes late must not end the guest.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self.refill_reserve()

    def refill_reserve(self) -> None:
        """Sets memory aside for the next shortage; without any left, goes on without."""
        if self._reserve is None:
            try:
                # Counted against the limit but not touched: a bytearray would cost 512 page faults a guest.
                self._reserve = mmap.mmap(-1, _RESERVE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            except (MemoryError, OSError):
                self._reserve = None

    def release_reserve(self) -> None:
        """Makes room after a MemoryError."""
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None
        gc.collect()

    def take_descriptors(self) -> list[int]:
        """What came beside the last message; the caller owns it."""
        taken, self.descriptors = self.descriptors, []
        return taken

    def send(self, message: GuestMessage) -> None:
        """Sends one whole message, or raises OSError when the host is gone."""
        self.send_frame(encode_frame(message))

    def send_frame(self, frame: bytes) -> None:
        """The same for a message already encoded."""

        def send_all() -> None:
            with self._send_lock:
                self.channel.sendall(frame)

        run_shielded(send_all)

    def receive(self) -> HostMessage | None:
        """Blocks for the host's next message that starts something; None when it hung up.

        Replies that nobody waits for any more, because their caller was interrupted, are dropped.
        """
        while True:
            message = run_shielded(lambda: receive_host_message(self.channel, self.descriptors))
            if not isinstance(message, CallReply):
                return message

    def has_message(self) -> bool:
        """Whether the host has said something that nobody has read yet."""
        poller = select.poll()
        poller.register(self.channel, select.POLLIN)
        return bool(poller.poll(0))

    def begin_run(self, run_id: int) -> None:
        """From here on `call` is answered."""
        self.interrupts.pending = False
        self.active_run = self.latest_run = run_id

    def end_run(self) -> list[HostMessage]:
        """From here on the main loop alone reads the channel; returns what the run left unread."""
        with self._receive_lock:
            self.active_run = None
            self._replies.clear()
            unread = list(self._commands)
            self._commands.clear()
        return unread

    def next_call_id(self) -> int:
        """A number no other call of this guest has."""
        with self._receive_lock:
            self._last_call_id += 1
            return self._last_call_id

    def wait_for_reply(self, call_id: int) -> CallReply:
        """Blocks until the host has answered; a SIGINT ends the wait, `RunEnded` says it is too late."""
        run_id = self.active_run
        while True:
            run_shielded(lambda: self._receive_reply(run_id))
            self.interrupts.raise_pending()
            reply = self._replies.pop(call_id, None)
            if reply is not None:
                return reply
            poller = select.poll()
            poller.register(self.channel, select.POLLIN)
            poller.poll(_CALL_POLL_MS)

    def _receive_reply(self, run_id: int | None) -> None:
        """Reads one message if one is there. While an execution runs those are replies and debug commands."""
        with self._receive_lock:
            if run_id is None or self.active_run != run_id:
                raise RunEnded
            if not self.has_message():
                return
            message = receive_host_message(self.channel, self.descriptors)
            if message is None:
                raise OSError("the host has closed the channel")
            if isinstance(message, CallReply):
                self._replies[message.call_id] = message
            else:
                self._commands.append(message)

    def next_command(self, *, wait: bool) -> HostMessage | None:
        """The next command of a debug session; None when there is none yet and `wait` is off.

        Any thread that stops may ask; a SIGINT ends the wait of the main thread.
        """
        run_id = self.active_run
        while True:
            run_shielded(lambda: self._receive_reply(run_id))
            if self._commands:
                return self._commands.popleft()
            if not wait:
                return None
            self.interrupts.raise_pending()
            poller = select.poll()
            poller.register(self.channel, select.POLLIN)
            poller.poll(_CALL_POLL_MS)
