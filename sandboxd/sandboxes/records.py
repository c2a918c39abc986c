"""Sandboxes as the store keeps them."""

import hashlib

import msgspec

from sandboxd.sandboxes.model import SandboxSpec, SandboxState
from sandboxd.sandboxes.sandbox import Sandbox
from sandboxd.store import records
from sandboxd.store.records import SandboxRecord

_spec_decoder = msgspec.json.Decoder(SandboxSpec)


def created(sandbox: Sandbox, *, request_id: str) -> SandboxRecord:
    """The record of a new sandbox."""
    spec = msgspec.json.encode(sandbox.spec)
    return SandboxRecord(
        id=sandbox.id,
        owner=sandbox.owner,
        user_id=sandbox.user_id,
        state=records.SandboxState.ACTIVE,
        create_time=sandbox.create_time,
        expire_time=sandbox.expire_time,
        policy=spec.decode(),
        request_id=request_id or None,
        request_fingerprint=hashlib.sha256(sandbox.user_id.encode() + b"\0" + spec).digest()
        if request_id
        else None,
    )


def spec_of(record: SandboxRecord) -> SandboxSpec:
    """What it was made with."""
    return _spec_decoder.decode(record.policy)


def state_of(record: SandboxRecord) -> SandboxState:
    """Where it stands."""
    return SandboxState(record.state.value)


def stored_state(state: SandboxState) -> records.SandboxState:
    """The store's word for a state."""
    return records.SandboxState(state.value)


def stored_states(states: list[SandboxState]) -> tuple[records.SandboxState, ...]:
    """The store's words for states."""
    return tuple(stored_state(state) for state in states)
