"""Ids: unguessable, typed by prefix, never reused. They give no access by themselves."""

import base64
import secrets
from typing import NewType

SandboxId = NewType("SandboxId", str)
ExecutionId = NewType("ExecutionId", str)
CheckpointId = NewType("CheckpointId", str)
QueryId = NewType("QueryId", str)

_RANDOM_BYTES = 16
_SHOWN_CHARACTERS = 12


def _new(prefix: str) -> str:
    return prefix + base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode().rstrip("=").lower()


def new_sandbox_id() -> SandboxId:
    """`sbx_` and 128 random bits."""
    return SandboxId(_new("sbx_"))


def new_execution_id() -> ExecutionId:
    """`exe_` and 128 random bits."""
    return ExecutionId(_new("exe_"))


def new_checkpoint_id() -> CheckpointId:
    """`ckp_` and 128 random bits."""
    return CheckpointId(_new("ckp_"))


def new_query_id() -> QueryId:
    """`qry_` and 128 random bits."""
    return QueryId(_new("qry_"))


def shown(whole: str) -> str:
    """What a log shows of an id: its type and 40 of its bits, enough to find it by and not the whole."""
    return whole[:_SHOWN_CHARACTERS]
