"""From what happened in a guest to what a caller is told: state, failure, limit receipt."""

import signal
from datetime import timedelta

from sandboxd.channel.messages import FailureReport, Finished
from sandboxd.executions.model import (
    ExecutionState,
    Failure,
    FailureKind,
    LimitName,
    LimitReceipt,
)
from sandboxd.executions.run import CANCEL, OUTPUT_FLOOD, TIME_OUT, RunOutcome
from sandboxd.limits import Limits
from sandboxd.supervisor.guest_exit import ZYGOTE_DIED, GuestExit

_REPORTED_KINDS = {
    "exception": FailureKind.EXCEPTION,
    "syntax_error": FailureKind.SYNTAX_ERROR,
    "policy_violation": FailureKind.POLICY_VIOLATION,
    "interrupted": FailureKind.EXCEPTION,
    "memory_error": FailureKind.OUT_OF_MEMORY,
}

Verdict = tuple[ExecutionState, Failure | None, LimitReceipt | None]


def judge(outcome: RunOutcome, *, limits: Limits, timeout: timedelta, output_bytes: int) -> Verdict:
    """State, failure and limit receipt of a run."""
    finished = outcome.finished
    if outcome.stopped_for == TIME_OUT:
        return _timed_out(outcome, finished, timeout)
    if outcome.stopped_for == CANCEL:
        failure = _failure_of(finished, FailureKind.CANCELLED, "the execution was cancelled")
        return ExecutionState.CANCELLED, failure, None
    if outcome.stopped_for == OUTPUT_FLOOD:
        receipt = LimitReceipt(
            limit=LimitName.OUTPUT,
            limit_value=limits.output_bytes,
            used_value=output_bytes,
            unit="bytes",
            message=f"{output_bytes} bytes were written where {limits.output_bytes} are kept; it was ended",
        )
        return ExecutionState.FAILED, _limit_failure(receipt, "write less, or only what matters"), receipt
    if finished is not None:
        return _finished(finished, outcome, limits)
    if outcome.exit is None:  # nobody saw an end: never called so
        raise AssertionError("a run ends by its last word or by the guest's death")
    return _died(outcome.exit, outcome, limits)


def _timed_out(outcome: RunOutcome, finished: Finished | None, timeout: timedelta) -> Verdict:
    limit_ms = round(timeout.total_seconds() * 1000)
    receipt = LimitReceipt(
        limit=LimitName.EXECUTION_TIMEOUT,
        limit_value=limit_ms,
        used_value=round(outcome.wall_seconds * 1000),
        unit="ms",
        message=f"the execution ran longer than its {limit_ms} ms",
    )
    failure = _failure_of(
        finished,
        FailureKind.TIMED_OUT,
        receipt.message,
        hint="work on less data, or ask for a longer execution_timeout",
    )
    return ExecutionState.TIMED_OUT, failure, receipt


def _finished(finished: Finished, outcome: RunOutcome, limits: Limits) -> Verdict:
    report = finished.failure
    if report is None:
        return ExecutionState.SUCCEEDED, None, None
    kind = _REPORTED_KINDS[report.kind]
    failure = _from_report(report, kind)
    receipt = _memory_receipt(outcome, limits) if kind is FailureKind.OUT_OF_MEMORY else None
    return ExecutionState.FAILED, failure, receipt


def _died(exit_: GuestExit, outcome: RunOutcome, limits: Limits) -> Verdict:
    if exit_.oom_killed:
        receipt = _memory_receipt(outcome, limits)
        failure = Failure(
            kind=FailureKind.OUT_OF_MEMORY,
            message=receipt.message,
            hint="work on smaller pieces, or ask for more memory_bytes",
            signal=signal.SIGKILL,
        )
        return ExecutionState.FAILED, failure, receipt
    if exit_.killed_for.startswith("its sandbox"):
        failure = Failure(kind=FailureKind.SANDBOX_ENDED, message=exit_.killed_for)
        return ExecutionState.CANCELLED, failure, None
    if exit_.killed_for == ZYGOTE_DIED:
        failure = Failure(
            kind=FailureKind.OUTCOME_UNKNOWN,
            message="the service lost the process that ran it; what it did by then is unknown",
            hint="run it again if running it twice does no harm",
        )
        return ExecutionState.ABORTED, failure, None
    if exit_.killed_for:
        failure = Failure(kind=FailureKind.PROTOCOL_VIOLATION, message=f"user code {exit_.killed_for}")
        return ExecutionState.FAILED, failure, None
    return ExecutionState.FAILED, _own_death(exit_), None


def _own_death(exit_: GuestExit) -> Failure:
    name = exit_.signal_name
    if name == "SIGSYS":
        return Failure(
            kind=FailureKind.FORBIDDEN_SYSTEM_CALL,
            message="user code made a system call that no data program needs; its process was ended",
            signal=signal.SIGSYS,
        )
    if name:
        number = signal.Signals[name]
        return Failure(
            kind=FailureKind.CRASHED,
            message=f"the interpreter crashed with {name}",
            signal=number,
        )
    if exit_.exit_code is None:
        return Failure(
            kind=FailureKind.CRASHED, message="the process ended; this kernel does not tell the server how"
        )
    return Failure(
        kind=FailureKind.EXITED,
        message=f"user code ended its process with exit code {exit_.exit_code}",
        hint="raise an exception, or let the code run to its end",
    )


def _failure_of(finished: Finished | None, kind: FailureKind, message: str, *, hint: str = "") -> Failure:
    """The guest's own traceback where there is one: it shows the line that was running."""
    if finished is None or finished.failure is None:
        return Failure(kind=kind, message=message, hint=hint)
    report = finished.failure
    return Failure(
        kind=kind,
        type_name=report.type_name,
        message=message,
        traceback=report.traceback,
        frames=tuple(report.frames),
        hint=hint,
    )


def _from_report(report: FailureReport, kind: FailureKind) -> Failure:
    return Failure(
        kind=kind,
        type_name=report.type_name,
        message=report.message,
        traceback=report.traceback,
        frames=tuple(report.frames),
        violations=tuple(report.violations),
    )


def _limit_failure(receipt: LimitReceipt, hint: str) -> Failure:
    return Failure(kind=FailureKind.LIMIT_EXCEEDED, message=receipt.message, hint=hint)


def _memory_receipt(outcome: RunOutcome, limits: Limits) -> LimitReceipt:
    return LimitReceipt(
        limit=LimitName.MEMORY,
        limit_value=limits.memory_bytes,
        used_value=outcome.peak_memory_bytes,
        unit="bytes",
        message=f"the execution needed more than its {limits.memory_bytes} bytes of memory",
    )
