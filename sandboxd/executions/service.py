"""Runs executions: admits them, gives them their turn in a sandbox, and records how they ended."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

import structlog

from sandboxd.channel.messages import Run
from sandboxd.errors import SandboxDeleted, SandboxdError, WrongState
from sandboxd.executions.admission import Admission
from sandboxd.executions.debug_feed import DebugFeed, FeedingEvents
from sandboxd.executions.events import EventLog, Queued, Started
from sandboxd.executions.history import ExecutionHistory
from sandboxd.executions.live import LiveExecution
from sandboxd.executions.model import (
    Execution,
    ExecutionRequest,
    ExecutionResult,
    ExecutionState,
    Failure,
    FailureKind,
    Usage,
)
from sandboxd.executions.outcome import Verdict, judge
from sandboxd.executions.run import CallHandler, GuestRun, RunOutcome
from sandboxd.ids import new_execution_id, shown
from sandboxd.sandboxes.model import CheckpointReport, SessionOutcome, SessionState, SkipReason
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.supervisor.guest_process import GuestProcess

_log = structlog.get_logger(__name__)

_EVENT_BUDGET_FACTOR = 3
"""Room for both output streams and the log."""


CallSource: TypeAlias = Callable[[Sandbox, Execution], CallHandler]
"""Who answers the calls of an execution in a sandbox."""


class Executions:
    """Owns every execution from its admission to its result. A caller that goes away does not stop the
    record from being true."""

    def __init__(
        self,
        *,
        admission: Admission,
        history: ExecutionHistory,
        calls: CallSource,
        on_finished: Callable[[Execution], None] = lambda _execution: None,
    ) -> None:
        self._admission = admission
        self._history = history
        self._calls = calls
        self._on_finished = on_finished
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(
        self, sandbox: Sandbox, request: ExecutionRequest, *, feed: DebugFeed | None = None
    ) -> LiveExecution:
        """Admits an execution or refuses it; it runs on by itself. A debug run reports to `feed` too.

        A request id that was used before gives the execution of then, which may still run.
        """
        earlier = self._history.by_request(sandbox, request)
        if earlier is not None:
            return earlier
        self._admission.check(sandbox, when_busy=request.when_busy)
        execution = Execution(
            id=new_execution_id(),
            owner=sandbox.owner,
            user_id=sandbox.user_id,
            sandbox_id=sandbox.id,
            request=request,
            create_time=datetime.now(UTC),
        )
        limits = sandbox.spec.limits
        budget = _EVENT_BUDGET_FACTOR * limits.output_bytes + limits.log_bytes
        events = FeedingEvents(feed, budget_bytes=budget) if feed else EventLog(budget_bytes=budget)
        live = LiveExecution(execution, events=events)
        live.feed = feed
        lease = self._admission.hold_debug_stream(sandbox) if feed else None
        try:
            first = await self._history.begin(live)
        except BaseException:
            if lease is not None:
                lease.release()
            raise
        if first is not live:
            if lease is not None:
                lease.release()
            return first
        live.lease = lease
        if sandbox.busy:
            live.events.add(Queued(position=sandbox.waiting + 1))
        live.task = asyncio.get_running_loop().create_task(self._perform(sandbox, live))
        self._tasks.add(live.task)
        live.task.add_done_callback(self._tasks.discard)
        return live

    async def close(self, *, grace_seconds: float) -> None:
        """Lets what runs end within the grace, then cancels it."""
        self._admission.stop()
        try:
            async with asyncio.timeout(grace_seconds):
                await self._admission.idle()
        except TimeoutError:
            for live in list(self._history.everyone()):
                if not live.done:
                    live.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=5)

    async def _perform(self, sandbox: Sandbox, live: LiveExecution) -> None:
        execution = live.execution
        queued = time.perf_counter()
        try:
            async with self._admission.enter(sandbox):
                queue_seconds = time.perf_counter() - queued
                went_on = await self._run_in(sandbox, live, queue_seconds=queue_seconds)
                await self._finish(sandbox, live)  # the caller has its answer; the turn is still ours
                if went_on:
                    await sandbox.keep(execution.id, execution.number)
                else:
                    await sandbox.settle()
        except asyncio.CancelledError:
            self._never_ran(
                live, ExecutionState.CANCELLED, FailureKind.CANCELLED, "cancelled while it waited"
            )
        except SandboxDeleted as error:
            self._never_ran(live, ExecutionState.CANCELLED, FailureKind.SANDBOX_ENDED, str(error))
        except SandboxdError as error:
            live.refused = error
            self._never_ran(live, ExecutionState.ABORTED, FailureKind.NEVER_RAN, str(error))
        except Exception as error:  # noqa: BLE001  a bug of ours must not leave a caller waiting for ever
            _log.error("execution.failed_to_run", execution=shown(execution.id), exc_info=error)
            self._lost_sight(live)
        finally:
            await self._finish(sandbox, live)

    async def _finish(self, sandbox: Sandbox, live: LiveExecution) -> None:
        """Everything is in place: whoever waits is woken. Harmless when it was done."""
        if live.done:
            return
        sandbox.touch()
        if live.lease is not None:
            live.lease.release()
        await self._history.finish(live)
        execution = live.execution
        self._on_finished(execution)
        _log.info(
            "execution.finished",
            execution=shown(execution.id),
            state=execution.state.value,
            wall_ms=round(execution.result.usage.wall_seconds * 1000, 1) if execution.result else None,
        )

    async def _run_in(self, sandbox: Sandbox, live: LiveExecution, *, queue_seconds: float) -> bool:
        """Returns whether the session went on with what the execution did."""
        starting = time.perf_counter()
        execution, request = live.execution, live.execution.request
        sandbox.touch()
        guest = await sandbox.guest()
        _require_way_back(sandbox, request)
        sandbox.execution_count += 1
        execution.number = sandbox.execution_count
        sandbox.session.states.ring.ran(execution.id, execution.number)
        timeout = request.timeout or sandbox.spec.limits.execution_timeout
        run = GuestRun(
            guest=guest,
            run=_run_message(execution, capture_frames=_captures(sandbox, request)),
            limits=sandbox.spec.limits,
            timeout_seconds=timeout.total_seconds(),
            events=live.events,
            call=self._calls(sandbox, execution),
            feed=live.feed,
            copy=sandbox.session.states.copy_of_stopped,
        )
        live.run = run
        execution.state = ExecutionState.RUNNING
        execution.start_time = datetime.now(UTC)
        self._history.started(live)
        sandbox.running_execution_id = execution.id
        live.events.add(Started(number=execution.number))
        try:
            start_seconds = time.perf_counter() - starting
            outcome = await run.execute()
            self._admission.charge(sandbox, outcome.cpu_seconds)
            ending = time.perf_counter()
            written = sum(kept.output().total_bytes for kept in run.outputs.values())
            verdict = judge(outcome, limits=run.limits, timeout=timeout, output_bytes=written)
            rolled_back = request.rollback_on_error and verdict[0] is not ExecutionState.SUCCEEDED
            session = await self._session_after(sandbox, outcome, guest, rolled_back=rolled_back)
        finally:
            sandbox.running_execution_id = ""
        self._record(live, run, outcome, session, verdict, (queue_seconds, start_seconds, ending))
        return guest is sandbox.session.guest and not sandbox.single_use

    async def _session_after(
        self, sandbox: Sandbox, outcome: RunOutcome, guest: GuestProcess, *, rolled_back: bool
    ) -> SessionOutcome:
        before = sandbox.session.states.report
        if sandbox.single_use:
            report = CheckpointReport(skipped=SkipReason.SINGLE_USE)
            return SessionOutcome(state=SessionState.ENDED, checkpoint=report)
        if outcome.exit is not None or not guest.alive:
            return _told(sandbox, await sandbox.recover(_reason(outcome)))
        if rolled_back:
            return _told(sandbox, await sandbox.session.roll_back("it failed and was to be rolled back"))
        notice = sandbox.session.take_notice()
        if notice is not None:
            return dataclasses.replace(notice, checkpoint=before)
        return SessionOutcome(checkpoint=before)

    def _record(
        self,
        live: LiveExecution,
        run: GuestRun,
        outcome: RunOutcome,
        session: SessionOutcome,
        verdict: Verdict,
        times: tuple[float, float, float],
    ) -> None:
        execution = live.execution
        queue_seconds, start_seconds, ending = times
        stdout, stderr = run.outputs["stdout"].output(), run.outputs["stderr"].output()
        written = stdout.total_bytes + stderr.total_bytes
        state, failure, receipt = verdict
        finished = outcome.finished
        succeeded = state is ExecutionState.SUCCEEDED
        execution.result = ExecutionResult(
            state=state,
            value=finished.value if finished and succeeded else None,
            value_truncated=finished.value_truncated if finished and succeeded else False,
            failure=failure,
            stdout=stdout,
            stderr=stderr,
            log_entries=tuple(run.log_entries),
            inspected=tuple(run.inspected),
            dropped_log_entries=run.dropped_log_entries,
            usage=Usage(
                wall_seconds=outcome.wall_seconds,
                cpu_seconds=outcome.cpu_seconds,
                queue_seconds=queue_seconds,
                start_seconds=start_seconds,
                end_seconds=time.perf_counter() - ending,
                peak_memory_bytes=outcome.peak_memory_bytes,
                output_bytes=written,
                refused_forks=outcome.refused_forks,
            ),
            limit_receipt=receipt,
            session=session,
            cancelled_tasks=max(0, finished.cancelled_tasks) if finished else 0,
            live_threads=max(0, finished.live_threads) if finished else 0,
        )
        execution.state = state
        execution.end_time = datetime.now(UTC)

    def _lost_sight(self, live: LiveExecution) -> None:
        if live.done:
            return
        live.execution.state = ExecutionState.ABORTED
        live.execution.end_time = datetime.now(UTC)
        failure = Failure(kind=FailureKind.OUTCOME_UNKNOWN, message="the service failed to run it")
        live.execution.result = ExecutionResult(state=ExecutionState.ABORTED, failure=failure)

    def _never_ran(self, live: LiveExecution, state: ExecutionState, kind: FailureKind, message: str) -> None:
        if live.done:  # it ran and has its result; what failed was keeping the state after it
            _log.warning("session.not_kept", execution=shown(live.execution.id), problem=message)
            return
        live.execution.state = state
        live.execution.end_time = datetime.now(UTC)
        failure = Failure(kind=kind, message=message, hint="nothing was run; it is safe to try again")
        live.execution.result = ExecutionResult(state=state, failure=failure)


def _told(sandbox: Sandbox, outcome: SessionOutcome) -> SessionOutcome:
    """A loss that was found before the execution is told with its own, else by the next execution."""
    if outcome.state is SessionState.LOST:
        sandbox.session.take_notice()
    return outcome


def _require_way_back(sandbox: Sandbox, request: ExecutionRequest) -> None:
    """What is to be rolled back needs a kept state; said before anything runs."""
    kept = sandbox.session.states.report
    if request.rollback_on_error and kept.skipped is not None and not sandbox.single_use:
        raise WrongState(problem=f"rollback_on_error needs a kept state, and there is none: {kept.message}")


def _reason(outcome: RunOutcome) -> str:
    if outcome.stopped_for:
        return outcome.stopped_for
    if outcome.exit is None:
        return "the session was ended"
    if outcome.exit.oom_killed:
        return "out of memory"
    if outcome.exit.exit_code is not None:
        return f"the process exited with code {outcome.exit.exit_code}"
    return outcome.exit.killed_for or outcome.exit.signal_name or "the process ended"


def _captures(sandbox: Sandbox, request: ExecutionRequest) -> bool:
    if request.capture_frames is not None:
        return request.capture_frames
    return sandbox.spec.enable_debugging


def _run_message(execution: Execution, *, capture_frames: bool) -> Run:
    return Run(
        run_id=execution.number,
        source=execution.request.code,
        label=f"<execution {execution.number}>",
        capture_frames=capture_frames,
        inputs=list(execution.request.inputs),
        debug=execution.request.debug,
    )
