"""Operations on their way to the database, folded so that each record is written once."""

from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from sandboxd.store import operations as op
from sandboxd.store.records import ExecutionRecord, ExecutionState, QueryRecord, SandboxRecord, SandboxState


class Batch:
    """Consecutive operations by record. Order between records doesn't matter; within one it is kept."""

    def __init__(self) -> None:
        self.last_sequence = 0
        self.size = 0
        self.sandboxes: dict[str, SandboxRecord] = {}
        self.renewals: dict[str, op.RenewSandbox] = {}
        self.sandbox_ends: dict[str, op.EndSandbox] = {}
        self.executions: dict[str, ExecutionRecord] = {}
        self.starts: dict[str, op.StartExecution] = {}
        self.outcomes: dict[str, op.FinishExecution] = {}
        """Of executions whose beginning an earlier batch has."""
        self.withdrawn: set[str] = set()
        self.queries: dict[str, QueryRecord] = {}
        self.execution_requests: dict[tuple[str, str], str] = {}
        self.sandbox_requests: dict[tuple[str, str], str] = {}

    def __bool__(self) -> bool:
        return self.size > 0

    def add(self, operation: op.Operation, sequence: int | None) -> None:
        """Fold one operation in; `sequence` is None for one that the journal has no room for."""
        self.size += 1
        self.last_sequence = sequence or self.last_sequence
        match operation:
            case op.CreateSandbox(record=record):
                self.sandboxes[record.id] = record
                if record.request_id is not None:
                    self.sandbox_requests[record.owner, record.request_id] = record.id
            case op.RenewSandbox() | op.EndSandbox():
                self._change_sandbox(operation)
            case op.BeginExecution(record=execution):
                self._begin(execution)
            case op.StartExecution() | op.FinishExecution():
                self._advance(operation)
            case op.WithdrawExecution(id=execution_id):
                self._withdraw(execution_id)
            case op.RecordQuery(record=query):
                self.queries[query.id] = query
            case _:
                assert_never(operation)

    def split(self) -> Iterator["Batch"]:
        """One batch a record: to find the one that the database refuses."""
        for kind in ("sandboxes", "renewals", "sandbox_ends", "executions", "starts", "outcomes", "queries"):
            for record_id, item in getattr(self, kind).items():
                single = Batch()
                single.size = 1
                getattr(single, kind)[record_id] = item
                yield single

    def _change_sandbox(self, operation: op.RenewSandbox | op.EndSandbox) -> None:
        record = self.sandboxes.get(operation.id)
        match operation:
            case op.RenewSandbox(id=sandbox_id, expire_time=expire_time):
                if record is not None:
                    self.sandboxes[sandbox_id] = replace(record, expire_time=expire_time)
                else:
                    self.renewals[sandbox_id] = operation
            case op.EndSandbox(id=sandbox_id, state=state, end_time=end_time, end_reason=reason):
                if record is not None and record.state is not SandboxState.ACTIVE:
                    return
                if record is not None:
                    ended = replace(record, state=state, end_time=end_time, end_reason=reason)
                    self.sandboxes[sandbox_id] = ended
                else:
                    self.sandbox_ends.setdefault(sandbox_id, operation)

    def _begin(self, record: ExecutionRecord) -> None:
        self.executions[record.id] = record
        self.withdrawn.discard(record.id)
        if record.request_id is not None:
            self.execution_requests[record.owner, record.request_id] = record.id

    def _advance(self, operation: op.StartExecution | op.FinishExecution) -> None:
        record = self.executions.get(operation.id)
        match operation:
            case op.StartExecution(id=execution_id, start_time=start):
                if record is None:
                    self.starts[execution_id] = operation
                elif record.outcome is None:
                    self.executions[execution_id] = replace(
                        record, state=ExecutionState.RUNNING, start_time=start
                    )
            case op.FinishExecution(id=execution_id, outcome=outcome):
                if record is None:
                    self.outcomes.setdefault(execution_id, operation)
                elif record.outcome is None:
                    self.executions[execution_id] = replace(record, state=outcome.state, outcome=outcome)

    def _withdraw(self, execution_id: str) -> None:
        record = self.executions.pop(execution_id, None)
        if record is not None and record.request_id is not None:
            self.execution_requests.pop((record.owner, record.request_id), None)
        self.starts.pop(execution_id, None)
        self.outcomes.pop(execution_id, None)
        self.withdrawn.add(execution_id)
