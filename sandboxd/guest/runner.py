"""One execution from its message to its report."""

import ast
import asyncio
import io
import json
import sys
from collections.abc import Callable
from typing import Any

from sandboxd.channel.messages import FailureReport, Finished, Input, Run, Violation
from sandboxd.channel.values import Value
from sandboxd.guest.api import guest_functions
from sandboxd.guest.coroutines import Outcome
from sandboxd.guest.debug_log import DebugLog
from sandboxd.guest.describe import to_value
from sandboxd.guest.failures import (
    describe_failure,
    describe_syntax_error,
    describe_violations,
    out_of_memory,
)
from sandboxd.guest.imports import user_builtins
from sandboxd.guest.interrupts import run_interruptible
from sandboxd.guest.program import LAST_VALUE, Program, RulesBroken, execute, prepare
from sandboxd.guest.rules import find_violations
from sandboxd.guest.session import Session
from sandboxd.guest.type_names import clean_text

RESULT = "__result__"
_RECURSION_LIMIT = 1000

Executor = Callable[[Program, dict[str, Any]], Outcome]
"""What runs a prepared program in a namespace; a tracer is another one than `execute`."""


def run(session: Session, message: Run, executor: Executor = execute) -> Finished:
    """Runs `message` and reports; whatever user code did, the session can run the next one."""
    log = DebugLog(session, message.run_id)
    session.begin_run(message.run_id)
    try:
        _reset_interpreter(session)
        finished = _run(session, message, log, executor)
    except MemoryError:
        session.release_reserve()
        finished = Finished(
            run_id=message.run_id, failure=out_of_memory(), live_threads=session.live_threads()
        )
    finally:
        session.namespace.pop(LAST_VALUE, None)
        session.output.flush(run_interruptible)
        session.end_run()
    session.refill_reserve()
    return finished


def _run(session: Session, message: Run, log: DebugLog, executor: Executor) -> Finished:
    outcome = Outcome()
    failure: FailureReport | None = None
    value: Value | None = None
    truncated = False
    try:
        install_builtins(session, log)
        _bind_inputs(session, message.inputs)
        program = prepare(message.source, message.label, check=lambda tree: _check(session, tree))
        outcome = (
            Outcome(error=KeyboardInterrupt())
            if session.interrupts.pending
            else executor(program, session.namespace)
        )
    except RulesBroken as broken:
        failure = describe_violations(broken.violations)
    except SyntaxError as error:
        failure = describe_syntax_error(error)
    if outcome.error is not None:
        failure = _describe_failure(session, outcome, capture_frames=message.capture_frames)
    elif failure is None:
        value, truncated = _result(session)
    return Finished(
        run_id=message.run_id,
        value=value,
        failure=failure,
        value_truncated=truncated,
        cancelled_tasks=outcome.cancelled_tasks,
        live_threads=session.live_threads(),
        dropped_log_entries=log.dropped,
    )


def install_builtins(session: Session, log: DebugLog) -> None:
    """Gives user frames their builtins: the language rules and the guest API of this execution."""
    session.namespace["__builtins__"] = user_builtins(session.language, guest_functions(session, log))


def _check(session: Session, tree: ast.Module) -> list[Violation]:
    return find_violations(tree, session.language, known_names=frozenset(session.namespace))


def _reset_interpreter(session: Session) -> None:
    """Undoes what the last execution may have left behind in the interpreter itself."""
    session.interrupts.install()
    session.interrupts.pending = False
    session.output.install()
    session.namespace.pop(RESULT, None)
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
    size = session.configuration.result_bytes
    try:
        return run_interruptible(lambda: to_value(result, size=size, describe=_own_description))
    except MemoryError:
        raise
    except BaseException:
        return run_interruptible(lambda: to_value(object(), size=size))


def _own_description(value: Any) -> str | None:
    """The value's own repr: user code, so it may fail, and then the safe summary is used."""
    try:
        text = repr(value)
    except Exception:
        return None
    return clean_text(text, 64 * 1024) if isinstance(text, str) else None
