"""What may be done to the store, as it stands in the journal; every operation may be applied twice."""

from datetime import datetime

import msgspec

from sandboxd.store.records import (
    ExecutionOutcome,
    ExecutionRecord,
    QueryRecord,
    SandboxRecord,
    SandboxState,
)


class CreateSandbox(msgspec.Struct, frozen=True, tag=1, array_like=True):
    record: SandboxRecord


class RenewSandbox(msgspec.Struct, frozen=True, tag=2, array_like=True):
    id: str
    expire_time: datetime


class EndSandbox(msgspec.Struct, frozen=True, tag=3, array_like=True):
    id: str
    state: SandboxState
    end_time: datetime
    end_reason: str | None


class BeginExecution(msgspec.Struct, frozen=True, tag=4, array_like=True):
    record: ExecutionRecord


class StartExecution(msgspec.Struct, frozen=True, tag=5, array_like=True):
    id: str
    start_time: datetime


class FinishExecution(msgspec.Struct, frozen=True, tag=6, array_like=True):
    id: str
    outcome: ExecutionOutcome


class WithdrawExecution(msgspec.Struct, frozen=True, tag=7, array_like=True):
    """It never ran and the caller was told so: its request id is free again."""

    id: str


class RecordQuery(msgspec.Struct, frozen=True, tag=8, array_like=True):
    record: QueryRecord


Operation = (
    CreateSandbox
    | RenewSandbox
    | EndSandbox
    | BeginExecution
    | StartExecution
    | FinishExecution
    | WithdrawExecution
    | RecordQuery
)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Operation).decode
