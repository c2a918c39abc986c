"""One database worker as the host sees it: started by exec, spoken to by frames, ended by SIGKILL."""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable

import msgspec

from sandboxd.database import protocol
from sandboxd.database.frame_stream import FrameStream, FrameTooLarge
from sandboxd.database.protocol import HostRequest, OpenDatabases, WorkerReady, WorkerReply

_START_SECONDS = 20.0


class WorkerDied(Exception):
    """The worker is gone. `status` is its exit status, negative for a signal."""

    def __init__(self, status: int) -> None:
        super().__init__(f"database worker ended with status {status}")
        self.status = status

    @property
    def parsed_too_long(self) -> bool:
        """Whether the kernel ended it for the CPU time that parsing took."""
        return self.status == -signal.SIGVTALRM


class WorkerProcess:
    """A running worker. One task at a time may talk to it."""

    def __init__(self, process: Process, stream: FrameStream) -> None:
        self._process = process
        self._stream = stream
        self._broken = False

    @classmethod
    async def start(cls, opened: OpenDatabases) -> "WorkerProcess":
        """A worker that has done its imports. It has an empty environment and no URL in its arguments."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "sandboxd.database.worker",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env={},
                stdin=DEVNULL,
                stdout=DEVNULL,
            )
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(
            lambda: FrameStream(max_frame_bytes=protocol.MAX_REPLY_BYTES), sock=ours
        )
        worker = cls(process, stream)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await worker.send(opened)
                if not isinstance(await worker.receive(), WorkerReady):
                    raise WorkerDied(0)
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def pid(self) -> int:
        """For the audit and for tests."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it lives and has not been ordered to die."""
        return not self._broken and self._process.returncode is None

    async def send(self, request: HostRequest) -> None:
        """Sends one message; raises `WorkerDied`."""
        try:
            await self._stream.send(protocol.encode(request))
        except ConnectionError:
            raise await self._died() from None

    async def receive(self) -> WorkerReply:
        """The worker's next message; raises `WorkerDied`, also when it speaks nonsense."""
        try:
            return protocol.decode_reply(await self._stream.receive())
        except ConnectionError:
            raise await self._died() from None
        except (FrameTooLarge, msgspec.MsgspecError, ValueError):
            self.kill()
            raise await self._died() from None

    def kill(self) -> None:
        """SIGKILL; a statement that nothing else stops stops here."""
        self._broken = True
        if self._process.returncode is None:
            self._process.kill()

    def kill_after(self, seconds: float) -> Callable[[], None]:
        """Arms a kill; the returned function disarms it."""
        return asyncio.get_running_loop().call_later(seconds, self.kill).cancel

    async def end(self) -> None:
        """Kills and reaps."""
        self.kill()
        self._stream.close()
        await self._process.wait()

    async def _died(self) -> WorkerDied:
        self._broken = True
        self._stream.close()
        try:
            async with asyncio.timeout(1.0):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        return WorkerDied(self._process.returncode or 0)
