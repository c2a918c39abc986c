"""One execution after the other in one session: from its message to its report."""

import ast
import asyncio
import io
import json
import sys
from collections.abc import Callable
from typing import Any

from sandboxd.channel.messages import Configure, FailureReport, Finished, Fork, Input, Run, Violation
from sandboxd.channel.values import DescriptionValue, Value
from sandboxd.guest.api import GuestApi
from sandboxd.guest.copies import refuse_fork
from sandboxd.guest.coroutines import Outcome
from sandboxd.guest.debug.plan import wrap_expression_values
from sandboxd.guest.debug.traces import Traces
from sandboxd.guest.debug_log import DebugLog
from sandboxd.guest.describe import to_value
from sandboxd.guest.failures import (
    describe_failure,
    describe_syntax_error,
    describe_violations,
    out_of_memory,
)
from sandboxd.guest.imports import fill_builtins
from sandboxd.guest.interrupts import run_interruptible
from sandboxd.guest.program import LAST_VALUE, Program, RulesBroken, execute, prepare
from sandboxd.guest.rules import find_violations, may_break_rules
from sandboxd.guest.session import Session
from sandboxd.guest.type_names import clean_text, type_name

RESULT = "__result__"
_RECURSION_LIMIT = 1000

Executor = Callable[[Program, dict[str, Any]], Outcome]
"""What runs a prepared program in a namespace; a tracer is another one than `execute`."""


class Runner:
    """Runs the executions of one session, one at a time."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.log = DebugLog(session, 0)
        self._api = GuestApi(session, lambda: self.log)
        self.traces = Traces(session)
        self._restore_builtins()

    def configure(self, configuration: Configure) -> None:
        """Sets what holds from the next execution on. Rules that already hold cost nothing."""
        language = self.session.language
        self.session.configure(configuration)
        if self.session.language is not language:
            self._restore_builtins()

    def run(self, message: Run, executor: Executor = execute) -> Finished:
        """Runs `message` and reports; whatever user code did, the session can run the next one."""
        session = self.session
        if message.debug is not None:
            executor = self.traces.executor(message.run_id, message.debug)
        self.log = DebugLog(session, message.run_id)
        session.begin_run(message.run_id)
        try:
            _reset_interpreter(session)
            if "__import__" not in session.builtins or "debug" not in session.builtins:
                self._restore_builtins()
            return self._report(message, self._start(message, executor))
        except MemoryError:
            session.release_reserve()
            return Finished(
                run_id=message.run_id, failure=out_of_memory(), live_threads=session.live_threads()
            )
        finally:
            session.namespace.pop(LAST_VALUE, None)
            session.output.flush(run_interruptible)
            for unread in session.end_run():
                if isinstance(unread, Fork):
                    refuse_fork(session, unread, "the program went on")
            session.refill_reserve()

    def _restore_builtins(self) -> None:
        fill_builtins(self.session.builtins, self.session.language, self._api.names())
        self.traces.install(self.session.builtins)

    def _start(self, message: Run, executor: Executor) -> Outcome | FailureReport:
        """Runs the program, unless it is none."""
        session = self.session
        try:
            run_interruptible(lambda: _bind_inputs(session, message.inputs))
        except BaseException as error:
            return Outcome(error=error)
        try:
            check = self._check if may_break_rules(message.source, session.language) else None
            change = wrap_expression_values if message.debug is not None else None
            program = prepare(message.source, message.label, check=check, change=change)
        except RulesBroken as broken:
            return describe_violations(broken.violations)
        except SyntaxError as error:
            return describe_syntax_error(error)
        if session.interrupts.pending:  # the text took too long to read
            return Outcome(error=KeyboardInterrupt())
        return executor(program, session.namespace)

    def _report(self, message: Run, outcome: Outcome | FailureReport) -> Finished:
        session = self.session
        value: Value | None = None
        truncated, cancelled_tasks = False, 0
        failure = outcome if isinstance(outcome, FailureReport) else None
        if isinstance(outcome, Outcome):
            cancelled_tasks = outcome.cancelled_tasks
            if outcome.error is None:
                value, truncated = _result(session)
            else:
                failure = _describe_failure(session, outcome, capture_frames=message.capture_frames)
        return Finished(
            run_id=message.run_id,
            value=value,
            failure=failure,
            value_truncated=truncated,
            cancelled_tasks=cancelled_tasks,
            live_threads=session.live_threads(),
            dropped_log_entries=self.log.dropped,
        )

    def _check(self, tree: ast.Module) -> list[Violation]:
        return find_violations(tree, self.session.language, known_names=frozenset(self.session.namespace))


def _reset_interpreter(session: Session) -> None:
    """Undoes what the last execution may have left behind in the interpreter itself."""
    session.interrupts.install()
    session.interrupts.pending = session.interrupts.came = False
    session.output.install()
    session.namespace.pop(RESULT, None)
    session.namespace["__builtins__"] = session.builtins
    sys.setrecursionlimit(_RECURSION_LIMIT)
    sys.settrace(None)
    sys.setprofile(None)
    sys.modules["__main__"] = session.module
    if asyncio.events._event_loop_policy is not None:  # type: ignore[attr-defined]
        asyncio.events._event_loop_policy = None  # type: ignore[attr-defined]


def _bind_inputs(session: Session, inputs: list[Input]) -> None:
    for each in inputs:
        session.namespace[each.name] = _parse_input(each)


def _parse_input(given: Input) -> Any:
    if given.format == "json":
        return json.loads(given.payload)
    import pandas as pd

    return pd.read_csv(io.StringIO(given.payload))


def _describe_failure(session: Session, outcome: Outcome, *, capture_frames: bool) -> FailureReport:
    assert outcome.error is not None
    if isinstance(outcome.error, MemoryError):
        session.release_reserve()
    return describe_failure(
        outcome.error,
        namespace=session.namespace,
        suspended=outcome.suspended,
        capture_frames=capture_frames,
    )


def _result(session: Session) -> tuple[Value | None, bool]:
    """`__result__` when this execution set it, else the value of its last expression unless that is None."""
    namespace = session.namespace
    if RESULT in namespace:
        result = namespace[RESULT]
    else:
        result = namespace.pop(LAST_VALUE, None)
        if result is None:
            return None, False
    # A value's last parts may pass its size a little; the bound holds all the same.
    size = session.configuration.result_bytes
    size -= min(1024, size // 4)
    try:
        return run_interruptible(lambda: to_value(result, size=size, describe=_own_description))
    except MemoryError:
        raise
    except BaseException:
        unread = DescriptionValue(
            type_name=type_name(type(result)), text="<value could not be read>", truncated=True
        )
        return unread, True


def _own_description(value: Any) -> str | None:
    """The value's own repr: user code, so it may fail, and then the safe summary is used."""
    try:
        text = repr(value)
    except Exception:
        return None
    return clean_text(text, 64 * 1024) if isinstance(text, str) else None
