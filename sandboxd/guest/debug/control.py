"""The guest's side of an interactive session: stops the program and obeys the host meanwhile."""

import signal
import time
import types
from typing import Any, Protocol

from sandboxd.channel import debug
from sandboxd.channel.messages import Fork
from sandboxd.guest.debug.evaluating import Evaluator, Stopped
from sandboxd.guest.debug.evaluation import fill_in
from sandboxd.guest.debug.full_steps import StepWriter
from sandboxd.guest.debug.options import RETURN, UNWIND
from sandboxd.guest.debug.past import Past
from sandboxd.guest.debug.present import Present
from sandboxd.guest.debug.recorder import Recorder
from sandboxd.guest.debug.stepping import ENTRY, ArmedBreakpoint, Stepping, Stop
from sandboxd.guest.debug.steps import Step
from sandboxd.guest.debug.stop_report import breakpoints_set, stopped
from sandboxd.guest.debug.trace import Trace


class Line(Protocol):
    """The way to the host."""

    @property
    def interrupted(self) -> bool:
        """Whether the host has interrupted the run."""

    def send(self, message: Any) -> None:
        """Sends one message."""

    def next_command(self, *, wait: bool) -> Any | None:
        """The host's next command; None when there is none and `wait` is off, or the host hung up."""

    def fork(self, order: Fork) -> bool:
        """Makes the copy that is ordered; True in the copy, whose line leads to the host too."""

    def refuse_fork(self, order: Fork, problem: str) -> None:
        """Says why there is no copy."""


class Control:
    """Called at each step of an interactive run."""

    def __init__(
        self,
        *,
        run_id: int,
        line: Line,
        trace: Trace,
        recorder: Recorder,
        stepping: Stepping,
        stop_at_entry: bool,
        breakpoints_only: bool = False,
        streams: bool = False,
    ) -> None:
        """`streams` says that a stop is told only after all steps before it."""
        self._run_id = run_id
        self._line = line
        self._trace = trace
        self._recorder = recorder
        self.stepping = stepping
        self._entry = stop_at_entry
        self._signalled = False
        self._detached = False
        self._known: dict[int, dict[int, bytes]] = {}
        self._previous_handler: Any = None
        self._present = Present(trace, recorder, streams=streams)
        self._written: dict[Any, bytes] = {}
        self._breakpoints_only = breakpoints_only
        self._watching_only = False
        self._pending: Stop | None = None
        self._evaluator = Evaluator(line, trace, recorder)

    def install(self) -> None:
        """From here on SIGUSR1 makes the program look for commands at its next step."""
        self._previous_handler = signal.signal(signal.SIGUSR1, self._on_signal)
        self._signalled = True  # what came before was ignored

    def remove(self) -> None:
        """Gives the signal back."""
        signal.signal(signal.SIGUSR1, self._previous_handler or signal.SIG_DFL)

    def _on_signal(self, _number: int, _frame: types.FrameType | None) -> None:
        self._signalled = True
        if self._watching_only:
            self._watch_all()

    def rest(self) -> None:
        """Between stops only breakpoints are looked at, where nothing else is asked for."""
        quiet = self.stepping.mode == "continue"
        if self._breakpoints_only and quiet and not self.stepping.pause and not self._entry:
            self._watching_only = True
            self._recorder.tracking.forget_all()
            self._recorder.watch_only(frozenset(self.stepping.breakpoints))

    def _watch_all(self) -> None:
        self._watching_only = False
        self._present.forget()
        self._recorder.watch_only(None)

    @property
    def awaits_exceptions(self) -> bool:
        """Whether an exception may be a stop."""
        return self.stepping.exception_stops != "never"

    def stops_at_exception(self, frame: types.FrameType) -> bool:
        """Whether one that is raised while only breakpoints are watched is a stop; if so all is looked at
        again."""
        if not self.stepping.is_exception_stop(frame):
            return False
        self._watch_all()
        return True

    def hits(self, line: int, label: str, frame: types.FrameType) -> bool:
        """Whether a statement that is watched alone is a stop; after it everything is looked at again."""
        found = self.stepping.at_breakpoint(line, label, frame)
        if isinstance(found, ArmedBreakpoint):
            self._log(found, frame)
        if not isinstance(found, Stop):
            return False
        self._pending = found
        self._watch_all()
        return True

    def at_step(self, step: Step, frame: types.FrameType) -> None:
        """Stops here if that is asked for."""
        if self._detached:
            return
        if self._signalled:
            self._signalled = False
            self._obey_while_running()
        stop: Stop | ArmedBreakpoint | None
        if self._pending is not None:
            stop, self._pending = self._pending, None
        elif self._entry:
            self._entry = False
            stop = Stop(reason=ENTRY)
        else:
            stop = self.stepping.stop_at(step, frame)
        if isinstance(stop, ArmedBreakpoint):
            self._log(stop, frame)
        elif stop is not None:
            self._hold(stop, step, frame)

    def _obey_while_running(self) -> None:
        while (command := self._line.next_command(wait=False)) is not None:
            match command:
                case debug.PauseRun(command_id=number):
                    self.stepping.pause = True
                    self._done(number)
                case debug.SetBreakpoints():
                    self._set_breakpoints(command)
                case debug.QueryTrace():
                    self._query(command)
                case debug.DetachRun(command_id=number):
                    self._detached = True
                    self._done(number)
                case Fork():
                    self._line.refuse_fork(command, "the program runs")
                case _:
                    self._refuse(command.command_id, "NOT_STOPPED", "The program runs; pause it first.")

    def _hold(self, stop: Stop, step: Step, frame: types.FrameType) -> None:
        """Serves the host until it lets the program go on."""
        state, row = self._present.at(step)
        writer = self._writer()
        notes = [stop.note] if stop.note else []
        payload = stopped(writer, state, row, reason=stop.reason, known=self._known, notes=notes)
        self._report(payload, stop.reason, step[5])
        past = Past(self._trace, self.stepping, row.step)
        while True:
            command = self._line.next_command(wait=True)
            if command is None:
                raise KeyboardInterrupt
            if self._obey_at_stop(command, past, step, frame):
                self.rest()
                return

    def _obey_at_stop(self, command: Any, past: Past, step: Step, frame: types.FrameType) -> bool:
        match command:
            case debug.ResumeRun(mode="back" | "reverse"):
                self._go_back(command, past)
            case debug.ResumeRun():
                if past.step != past.present and command.mode != "continue":
                    return self._go_forward(command, past, step)
                at_end = step[1] in (RETURN, UNWIND)
                self.stepping.resume(command.mode, step[2], command.line, at_end=at_end)
                return True  # the next stop, or the end, is the answer
            case debug.EvaluateInFrame() | debug.SetVariable() | Fork():
                self._look_into(command, past, Stopped(step[2], frame))
            case debug.SetBreakpoints():
                self._set_breakpoints(command)
            case debug.QueryTrace():
                self._query(command)
            case debug.PauseRun(command_id=number):
                self._done(number)
            case debug.DetachRun(command_id=number):
                self._detached = True
                self._recorder.control = None
                self._done(number)
                return True
        return False

    def _look_into(
        self, command: debug.EvaluateInFrame | debug.SetVariable | Fork, past: Past, stop: Stopped
    ) -> None:
        match command:
            case debug.EvaluateInFrame():
                self._evaluator.evaluate(command, past, stop)
            case debug.SetVariable():
                self._evaluator.set_variable(command, past, stop)
            case Fork():
                if self._line.fork(command):
                    self._evaluator.live_as_copy(stop)

    # --- the past -----------------------------------------------------------------------------

    def _go_back(self, command: debug.ResumeRun, past: Past) -> None:
        self._recorder.flush()
        reason = past.back() if command.mode == "back" else past.reverse()
        self._done(command.command_id)
        self._show_past(past, reason)

    def _go_forward(self, command: debug.ResumeRun, past: Past, step: Step) -> bool:
        """Forward within the past; at the present the program itself goes on."""
        reason = past.forward()
        self._done(command.command_id)
        if past.step == past.present:
            state, row = self._present.at(step)
            self._report(
                stopped(self._writer(), state, row, reason=reason, known=self._known), reason, step[5]
            )
        else:
            self._show_past(past, reason)
        return False

    def _show_past(self, past: Past, reason: int) -> None:
        state, row = self._trace.state_before(past.step)
        if row is None:
            return
        payload = stopped(self._writer(), state, row, reason=reason, known=self._known, in_the_past=True)
        self._report(payload, reason, state.stdout_bytes)

    # --- commands -----------------------------------------------------------------------------

    def _set_breakpoints(self, command: debug.SetBreakpoints) -> None:
        found = self.stepping.set_breakpoints(command.breakpoints)
        if command.exception_stops is not None:
            self.stepping.exception_stops = command.exception_stops
        self._done(command.command_id, "breakpoints_set", breakpoints_set(found))

    def _query(self, command: debug.QueryTrace) -> None:
        from sandboxd.guest.debug.run import answer_query

        self._recorder.flush()
        self._line.send(answer_query(self._trace, command))

    # --- parts --------------------------------------------------------------------------------

    def _writer(self) -> StepWriter:
        recorder = self._recorder
        return StepWriter(
            names=list(recorder.names),
            codes=recorder.tracking.codes,
            max_variables=recorder.options.values.max_variables,
            written=self._written,
        )

    def _log(self, armed: ArmedBreakpoint, frame: types.FrameType) -> None:
        message = fill_in(armed.log_message, frame, self._recorder.picture)
        self._line.send(
            debug.DebugLogpoint(run_id=self._run_id, line=armed.line, message=message, time_ns=time.time_ns())
        )

    def _report(self, payload: bytes, reason: int, stdout_bytes: int) -> None:
        self._line.send(
            debug.DebugStopped(run_id=self._run_id, payload=payload, reason=reason, stdout_bytes=stdout_bytes)
        )

    def _done(self, command_id: int, kind: Any = "done", payload: bytes = b"") -> None:
        self._line.send(debug.CommandDone(command_id=command_id, kind=kind, payload=payload))

    def _refuse(self, command_id: int, reason: str, message: str) -> None:
        self._line.send(
            debug.CommandDone(command_id=command_id, kind="refused", reason=reason, message=message)
        )
