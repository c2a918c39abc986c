"""Real guest processes for tests, without isolation: a preloaded process that forks one for each socket it
is sent. Run as a script it is that process; imported it is the way to talk to it."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Self

from sandboxd import policy
from sandboxd.channel import framing
from sandboxd.channel.messages import (
    Call,
    CallReply,
    Configure,
    Finished,
    GuestMessage,
    Input,
    Inspect,
    LanguageRules,
    Run,
    StateReport,
)

RESTRICTED = LanguageRules(
    restricted=True,
    allowed_modules=list(policy.ALLOWED_MODULES),
    blocked_modules=list(policy.BLOCKED_MODULES),
    blocked_builtins=list(policy.BLOCKED_BUILTINS),
)
UNRESTRICTED = LanguageRules(restricted=False, allowed_modules=[], blocked_modules=[], blocked_builtins=[])


class GuestDied(Exception):
    """The guest closed its channel."""


class Guest:
    """The host's side of one guest: sends messages, collects what comes back."""

    def __init__(
        self, channel: socket.socket, stdout: int, stderr: int, pid: int, *, read_output: bool = True
    ) -> None:
        self._channel = channel
        self._buffer = framing.FrameBuffer(max_frame_bytes=framing.MAX_GUEST_FRAME_BYTES)
        self._pending: list[bytes] = []
        self._run_id = 0
        self.pid = pid
        self.messages: list[GuestMessage] = []
        """Everything but the answers, of the last execution."""
        self.answer: Callable[[Call], CallReply] | None = None
        self._outputs = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers = [
            threading.Thread(target=self._drain, args=(descriptor, name), daemon=True)
            for descriptor, name in ((stdout, "stdout"), (stderr, "stderr"))
        ]
        for reader in self._readers if read_output else ():
            reader.start()

    def _drain(self, descriptor: int, name: str) -> None:
        while data := os.read(descriptor, 65536):
            self._outputs[name] += data
        os.close(descriptor)

    def configure(self, rules: LanguageRules = RESTRICTED, **changes: Any) -> Self:
        settings: dict[str, Any] = {
            "enable_debugging": True,
            "result_bytes": 1 << 20,
            "log_bytes": 1 << 20,
            **changes,
        }
        self.send(Configure(rules=rules, **settings))
        return self

    def send(self, message: Any) -> None:
        self._channel.sendall(framing.encode_frame(message))

    def send_bytes(self, data: bytes) -> None:
        self._channel.sendall(data)

    def receive(self) -> GuestMessage:
        while not self._pending:
            data = self._channel.recv(65536)
            if not data:
                raise GuestDied(bytes(self._outputs["stderr"]).decode())
            self._pending += self._buffer.feed(data)
        return framing.decode_guest_message(self._pending.pop(0))

    def start(self, source: str, *, inputs: list[Input] | None = None, capture_frames: bool = False) -> int:
        self._run_id += 1
        self.messages = []
        label = f"<execution {self._run_id}>"
        self.send(
            Run(
                run_id=self._run_id,
                source=source,
                label=label,
                capture_frames=capture_frames,
                inputs=inputs or [],
            )
        )
        return self._run_id

    def finish(self) -> Finished:
        while True:
            message = self.receive()
            if isinstance(message, Finished):
                assert message.run_id == self._run_id
                return message
            self.messages.append(message)
            if isinstance(message, Call) and self.answer is not None:
                self.send(self.answer(message))

    def run(self, source: str, **options: Any) -> Finished:
        self.start(source, **options)
        return self.finish()

    def wait_for(self, kind: type) -> Any:
        """The next message of a kind, e.g. the log entry by which user code says that it runs."""
        while not isinstance(message := self.receive(), kind):
            self.messages.append(message)
        return message

    def inspect(self, limit: int = 200) -> StateReport:
        self.send(Inspect(request_id=7, variable_limit=limit))
        report = self.wait_for(StateReport)
        assert isinstance(report, StateReport)
        return report

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def interrupt_like_the_host(self) -> Finished:
        """SIGINT, and another one when that was not enough: the first may come between Python's look at
        its signals and the system call that then sleeps."""
        self.interrupt()
        if not self._pending and not select.select([self._channel], [], [], 0.1)[0]:
            self.interrupt()
        return self.finish()

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._channel.close()

    def output(self, name: str = "stdout") -> str:
        """All of a stream; ends the guest, because only then it is complete."""
        self.close()
        for reader in self._readers:
            reader.join(10)
        return self._outputs[name].decode()


class Nursery:
    """The preloaded process."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.getcwd(), "PATH": ""}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=environment
        )
        theirs.close()

    def spawn(self, *, data_bytes: int = 0, read_output: bool = True) -> Guest:
        """A new guest; with `data_bytes` it may have so much memory beyond what it starts with."""
        ours, channel = socket.socketpair()
        stdout, stdout_end = os.pipe()
        stderr, stderr_end = os.pipe()
        socket.send_fds(self._control, [str(data_bytes).encode()], [channel.fileno(), stdout_end, stderr_end])
        channel.close()
        os.close(stdout_end)
        os.close(stderr_end)
        return Guest(ours, stdout, stderr, int(self._control.recv(64)), read_output=read_output)

    def close(self) -> None:
        self._control.close()
        self._process.wait(10)


def _serve_forks(control: socket.socket) -> None:
    import gc
    import resource
    import traceback

    from sandboxd.guest import main, preload, reseed

    preload.warm_up()
    runner = preload.prepare_runner(proc=os.open("/proc", os.O_PATH | os.O_CLOEXEC))
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, 64, 3)
        if not packet:
            return
        pid = os.fork()
        if pid == 0:
            os.setsid()
            control.close()
            channel, stdout, stderr = descriptors
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            for descriptor in (stdout, stderr):
                os.close(descriptor)
            reseed.reseed()
            if int(packet):
                with open("/proc/self/statm") as statm:
                    used = int(statm.read().split()[5]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_DATA, (used + int(packet), used + int(packet)))
            try:
                main.serve(runner, socket.socket(fileno=channel))
            except BaseException:  # noqa: BLE001  a test must be told why its guest has ended
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(0)
        control.send(str(pid).encode())
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    _serve_forks(socket.socket(fileno=int(sys.argv[1])))
