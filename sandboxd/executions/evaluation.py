"""Evaluates an expression in a copy of a stopped guest: what it does dies with the copy.

The copy is as hostile as its guest: one answer of it is taken, the rest is dropped, and it is killed when
its time is over.
"""

import asyncio

from sandboxd.channel.debug import CommandDone, EvaluateInFrame
from sandboxd.channel.framing import ChannelBroken
from sandboxd.channel.messages import Call, CallReply, GuestMessage
from sandboxd.supervisor.guest_exit import OutputStream
from sandboxd.supervisor.guest_process import GuestProcess

_GRACE_SECONDS = 0.25
"""The copy ends an evaluation by itself where it can, and then says so better."""
_MAX_OTHER_MESSAGES = 1000


async def evaluate_in(copy: GuestProcess, command: EvaluateInFrame) -> CommandDone:
    """The answer of a copy, which is killed afterwards."""
    sink = _Answer(copy, command.command_id)
    copy.listen(sink)
    try:
        copy.send(command)
        async with asyncio.timeout(command.timeout_ms / 1000 + _GRACE_SECONDS):
            await copy.until(sink.answer)
    except TimeoutError:
        return no_answer(
            command.command_id,
            "EVALUATION_TIMED_OUT",
            f"it took longer than {command.timeout_ms} ms; the program is as it was",
        )
    finally:
        copy.listen(None)
        copy.kill("its evaluation is over")
    if sink.answer.done():
        return sink.answer.result()
    return no_answer(
        command.command_id,
        "EVALUATION_DIED",
        f"the copy that evaluated it {_end_of(copy)}; the program is as it was",
    )


def no_answer(command_id: int, reason: str, message: str) -> CommandDone:
    """There is no value, and why."""
    return CommandDone(command_id=command_id, kind="refused", reason=reason, message=message)


def _end_of(copy: GuestProcess) -> str:
    end = copy.exited.result() if copy.exited.done() else None
    if end is None:
        return "ended"
    if end.oom_killed:
        return "ran out of memory"
    return f"was ended by {end.signal_name}" if end.signal_name else "ended itself"


class _Answer:
    """The sink of a copy that evaluates."""

    def __init__(self, copy: GuestProcess, command_id: int) -> None:
        self._copy = copy
        self._command_id = command_id
        self._others = 0
        self.answer: asyncio.Future[CommandDone] = asyncio.get_running_loop().create_future()

    def message(self, message: GuestMessage) -> None:
        if self.answer.done():
            return
        if isinstance(message, CommandDone) and message.command_id == self._command_id:
            if message.kind not in ("evaluated", "refused"):
                raise ChannelBroken("no answer to an evaluation")
            self.answer.set_result(message)
            return
        self._others += 1
        if self._others > _MAX_OTHER_MESSAGES:
            raise ChannelBroken("too many messages in an evaluation")
        if isinstance(message, Call):
            self._copy.send(
                CallReply(
                    call_id=message.call_id,
                    error_reason="EVALUATING",
                    error_message="an evaluation without side effects cannot query a database",
                    error_hint="allow side effects to evaluate in the program itself",
                )
            )

    def output(self, stream: OutputStream, data: bytes) -> None:
        """What it prints is in its answer; what it writes to a descriptor is lost."""
