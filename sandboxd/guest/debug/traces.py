"""The traces of one guest, and the executor that records them.

A trace lives in the guest, beside the namespace: it goes when the guest goes, and counts against the
sandbox's memory.
"""

import contextlib
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from sandboxd.channel.debug import CommandDone, DebugSettings, QueryTrace
from sandboxd.channel.messages import Fork
from sandboxd.guest.copies import refuse_fork, serve_brief_fork
from sandboxd.guest.coroutines import Outcome
from sandboxd.guest.debug.plan import VALUE_HOOK, SourcePlan
from sandboxd.guest.debug.run import DebugRun, answer_query
from sandboxd.guest.debug.trace import Trace
from sandboxd.guest.program import Program, execute
from sandboxd.guest.session import Session

_KEPT_TRACES = 4
_get_frame = sys._getframe


class Traces:
    """Records debug runs and answers questions about the last ones."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: OrderedDict[int, Trace] = OrderedDict()
        self._current: DebugRun | None = None

    def install(self, table: dict[str, Any]) -> None:
        """Puts the hook of expression statements among the builtins, for good: functions that a debug run
        defined call it later too."""
        table[VALUE_HOOK] = self._value

    def executor(self, run_id: int, settings: DebugSettings) -> Callable[[Program, dict[str, Any]], Outcome]:
        """What runs a program under the tracer, one whose expression values were wrapped."""

        def execute_traced(program: Program, namespace: dict[str, Any]) -> Outcome:
            return self._execute(run_id, settings, program, namespace)

        return execute_traced

    def answer(self, asked: QueryTrace) -> CommandDone:
        """The answer to a question about an earlier run."""
        return answer_query(self._kept.get(asked.run_id), asked)

    def _execute(
        self, run_id: int, settings: DebugSettings, program: Program, namespace: dict[str, Any]
    ) -> Outcome:
        session = self._session
        source = SourcePlan(program.source, program.tree, program.label)
        session.output.write_through(True)
        run = DebugRun(
            run_id=run_id,
            settings=settings,
            source=source,
            code=program.code,
            line=_HostLine(session),
            stdout=session.output.stdout_count(),
            hidden=frozenset(map(id, session.builtins.values())),
        )
        self._keep(run_id, run.trace)
        self._current = run
        try:
            run.start()
            return execute(program, namespace)
        except KeyboardInterrupt as error:
            return Outcome(error=error)
        finally:
            self._current = None
            self._stop(run)
            session.output.write_through(False)

    def _stop(self, run: DebugRun) -> None:
        for _ in range(2):  # a SIGINT that was held back may come out in the first
            with contextlib.suppress(KeyboardInterrupt):
                run.stop()
                return

    def _keep(self, run_id: int, trace: Trace) -> None:
        self._kept[run_id] = trace
        while len(self._kept) > _KEPT_TRACES:
            self._kept.popitem(last=False)

    def _value(self, value: Any) -> Any:
        run = self._current
        if run is not None and value is not None:
            run.recorder.expression(_get_frame(1), value)
        return value


class _HostLine:
    """The session as the debugger sees it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def interrupted(self) -> bool:
        return self._session.interrupts.came

    def send(self, message: Any) -> None:
        self._session.send(message)
        self._session.interrupts.raise_pending()

    def next_command(self, *, wait: bool) -> Any | None:
        return self._session.next_command(wait=wait)

    def fork(self, order: Fork) -> bool:
        return serve_brief_fork(self._session, order)

    def refuse_fork(self, order: Fork, problem: str) -> None:
        refuse_fork(self._session, order, problem)
