"""From the first sign of a guest to its greeting: who wrote it, what came beside it, whether it is right."""

import asyncio
import os
from typing import TYPE_CHECKING

from sandboxd.channel.framing import ChannelBroken
from sandboxd.channel.messages import Copied, ForkFailed, GuestMessage, Ready, SetupFailed
from sandboxd.errors import GuestSetupFailed
from sandboxd.supervisor import greetings, pidfds
from sandboxd.supervisor.fork_gate import ForkGate
from sandboxd.supervisor.guest_channel import SETUP_FRAME_BYTES, GuestChannel

if TYPE_CHECKING:
    from sandboxd.supervisor.guest_process import GuestProcess


def refuse(over: asyncio.Future[None], step: str, problem: str) -> None:
    """The guest will not be ready; harmless when it was."""
    if not over.done():
        over.set_exception(GuestSetupFailed(step=step, problem=problem))
        over.exception()  # whoever waits sees it; nobody may be waiting


class Handshake:
    """Reads one guest's channel until it has greeted; `over` resolves then, or is its `GuestSetupFailed`."""

    def __init__(self, guest: "GuestProcess", channel: GuestChannel) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._guest = guest
        self._channel = channel
        if guest.copy_of:
            greetings.ask_for_sender(channel.end)
        channel.read(self._greet, readable=self._readable)

    def _readable(self) -> None:
        greeting = greetings.receive(self._channel.end, SETUP_FRAME_BYTES)
        if greeting is None:
            return
        if greeting.sender >= 0:
            self._take_sender(greeting.sender)
        if greeting.descriptor >= 0:
            self._take_listener(greeting.descriptor)
        if not greeting.data:
            self._channel.pause()
            self._not_ready("start", "the guest closed its channel")
            return
        self._channel.feed(greeting.data)

    def _take_sender(self, pidfd: int) -> None:
        """The sender is the copy if it is a process that nobody has known before."""
        guest = self._guest
        pid = pidfds.pid_of(pidfd)
        known = {member.pid for member in guest.family.members}
        if guest.copy_of and guest.pidfd < 0 and pid > 0 and pid not in known:
            guest.adopt(pidfd)
        else:
            os.close(pidfd)

    def _take_listener(self, descriptor: int) -> None:
        if self._guest.copy_of or self._guest.gate is not None:
            os.close(descriptor)
        else:
            self._guest.family.gate = ForkGate(descriptor)

    def _greet(self, message: GuestMessage) -> None:
        if self.over.done():
            return
        if isinstance(message, SetupFailed):
            self._not_ready(message.step, message.problem)
        elif isinstance(message, ForkFailed) and self._guest.copy_of:
            self._not_ready("too large" if message.too_large else "copy", message.problem[:500])
        elif self._is_greeting(message):
            if self._guest.copy_of:
                greetings.ask_for_sender(self._channel.end, wanted=False)
            self.over.set_result(None)
            self._guest.greeted()
        else:
            raise ChannelBroken("no greeting")

    def _is_greeting(self, message: GuestMessage) -> bool:
        guest = self._guest
        if guest.copy_of:
            return isinstance(message, Copied) and message.fork_id == guest.guest_id and guest.pidfd >= 0
        return isinstance(message, Ready) and message.fork_gate == (guest.gate is not None)

    def _not_ready(self, step: str, problem: str) -> None:
        refuse(self.over, step, problem)
        self._guest.kill(f"set-up failed at {step}")
