"""Evaluates expressions and sets variables for a session that is stopped.

An expression that is to have no side effects runs in a copy of the process, which the host orders: whatever
it does to the program's objects dies with the copy, and the host kills the copy when it takes too long.
"""

import contextlib
import os
import types
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from sandboxd.channel import debug
from sandboxd.guest.debug.evaluation import EvaluationTimedOut, bind, is_expression, run_in_frame
from sandboxd.guest.debug.frames import FrameState
from sandboxd.guest.debug.judge import BadExpression, Undecided, judge, parse_expression
from sandboxd.guest.debug.layouts import type_name
from sandboxd.guest.debug.past import Past
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.show import read_value, show, show_plain
from sandboxd.guest.debug.stop_report import failure, plain_variable
from sandboxd.guest.debug.trace import Trace
from sandboxd.guest.debug.values import exception_summary
from sandboxd.guest.debug.wire import bytes_field

_exit = os._exit


class Line(Protocol):
    """The way to the host."""

    def send(self, message: Any) -> None:
        """Sends one message."""

    def next_command(self, *, wait: bool) -> Any | None:
        """The host's next command; None when the host hung up."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Where the program stands."""

    state: FrameState
    frame: types.FrameType


class Evaluator:
    """Answers what is asked of the frames of a stopped program."""

    def __init__(self, line: Line, trace: Trace, recorder: Recorder) -> None:
        self._line = line
        self._trace = trace
        self._recorder = recorder

    def evaluate(self, command: debug.EvaluateInFrame, past: Past, stop: Stopped) -> None:
        """Answers, or asks the host for a copy to evaluate in."""
        if past.step != past.present:
            self._evaluate_past(command, past)
        elif self._frame(command, stop) is None:
            return
        elif command.allow_side_effects or not is_expression(command.expression):
            self._evaluate_here(command, stop)
        else:
            self._answer(command.command_id, "copy_wanted")

    def live_as_copy(self, stop: Stopped) -> NoReturn:
        """The rest of the life of a copy: one evaluation."""
        with contextlib.suppress(BaseException):
            command = self._line.next_command(wait=True)
            if isinstance(command, debug.EvaluateInFrame):
                self._evaluate_here(command, stop)
        _exit(0)

    def set_variable(self, command: debug.SetVariable, past: Past, stop: Stopped) -> None:
        """Binds a variable, in the program itself."""
        if past.step != past.present:
            self._refuse(command.command_id, "IN_THE_PAST", "The past cannot be changed; go on first.")
            return
        target = self._frame(command, stop)
        if target is None:
            return
        try:
            value, _written = run_in_frame(target, command.expression, timeout_ms=10_000, statements=False)
            problem = bind(target, command.name, value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            body = _failed(error)
        else:
            body = bytes_field(2, failure("NameError", problem)) if problem else b""
            body = body or bytes_field(1, self._variable(command.name, value))
        self._answer(command.command_id, "variable_set", body)

    def _evaluate_here(self, command: debug.EvaluateInFrame, stop: Stopped) -> None:
        target = self._frame(command, stop)
        if target is None:
            return
        try:
            value, written = run_in_frame(
                target,
                command.expression,
                timeout_ms=command.timeout_ms,
                statements=command.allow_side_effects,
            )
        except EvaluationTimedOut:
            body = bytes_field(2, failure("TimeoutError", f"it took longer than {command.timeout_ms} ms"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            body = _failed(error)
        else:
            body = bytes_field(1, self._variable(command.expression, value))
            body += bytes_field(3, written) if written else b""
        self._answer(command.command_id, "evaluated", body)

    def _evaluate_past(self, command: debug.EvaluateInFrame, past: Past) -> None:
        state, row = self._trace.state_before(past.step)
        names = self._recorder.names

        def look_up(name: str) -> Any:
            number = names.get(name, 0)
            for frame_number in (command.frame or (row.frame if row else 1), 1):
                frame = state.frames.get(frame_number)
                if frame is not None and number in frame.variables:
                    return read_value(frame.variables[number])
            raise Undecided(name)

        try:
            text = show_plain(judge(parse_expression(command.expression), look_up))
        except (BadExpression, Undecided) as error:
            self._refuse(
                command.command_id,
                "IN_THE_PAST",
                f"Only recorded values can be asked for in the past ({error}); go on to the present first.",
            )
            return
        body = bytes_field(1, plain_variable(command.expression, "", text))
        self._answer(command.command_id, "evaluated", body)

    def _frame(
        self, command: debug.EvaluateInFrame | debug.SetVariable, stop: Stopped
    ) -> types.FrameType | None:
        """The frame that is meant; without one, says so to the host."""
        if command.frame in (0, stop.state.number):
            return stop.frame
        current: types.FrameType | None = stop.frame
        while current is not None:
            state = self._recorder.state_of(current)
            if state is not None and state.number == command.frame:
                return current
            current = current.f_back
        self._refuse(command.command_id, "NO_SUCH_FRAME", "No such frame is on the stack.")
        return None

    def _variable(self, name: str, value: Any) -> bytes:
        return plain_variable(name, type_name(type(value)), show(self._recorder.picture(value), 2000))

    def _answer(self, command_id: int, kind: Any, payload: bytes = b"") -> None:
        self._line.send(debug.CommandDone(command_id=command_id, kind=kind, payload=payload))

    def _refuse(self, command_id: int, reason: str, message: str) -> None:
        self._line.send(
            debug.CommandDone(command_id=command_id, kind="refused", reason=reason, message=message)
        )


def _failed(error: BaseException) -> bytes:
    return bytes_field(2, failure(type_name(type(error)), exception_summary(error).partition(": ")[2]))
