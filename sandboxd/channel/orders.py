"""What the host and the zygote say to each other, one message a packet; descriptors travel beside them."""

from typing import TypeAlias

import msgspec

from sandboxd.isolation.plan import IsolationPlan
from sandboxd.isolation.rlimits import ResourceLimits


class _Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every order and report: a tagged map without unknown fields."""


# --- host to zygote ----------------------------------------------------------------------------


class StartZygote(_Order, frozen=True, tag="start"):
    """The first order: set up the layers of `plan`, preload, report `ZygoteReady`."""

    plan: IsolationPlan


class IdsMapped(_Order, frozen=True, tag="ids_mapped"):
    """The host has written the id maps that `NeedIdMap` asked for."""


class Spawn(_Order, frozen=True, tag="spawn"):
    """Fork a guest. Three descriptors come along: its channel, stdout and stderr."""

    guest_id: int
    uid: int
    """As the zygote sees it; 0 keeps the zygote's own where ids cannot differ."""
    limits: ResourceLimits
    workspace_bytes: int
    workspace_inodes: int
    hostname: str
    fault_step: str = ""
    """A set-up step that is to fail; only tests ask for one."""


class Ping(_Order, frozen=True, tag="ping"):
    """Say that you still serve orders."""


HostOrder: TypeAlias = StartZygote | IdsMapped | Spawn | Ping

# --- zygote to host ----------------------------------------------------------------------------


class NeedIdMap(_Order, frozen=True, tag="need_id_map"):
    """The sender waits in a new user namespace for its id maps."""


class ZygoteReady(_Order, frozen=True, tag="ready"):
    """Preloaded and waiting for orders; a pidfd of the zygote comes along."""

    python_version: str
    packages: dict[str, str]
    """Versions of the preloaded packages."""
    frozen_bytes: int
    """Of its heap, moved to a file in memory; 0 where that can't be done and forks cost more."""


class ZygoteFailed(_Order, frozen=True, tag="failed"):
    """The zygote could not be set up and exits."""

    step: str
    problem: str


class Spawned(_Order, frozen=True, tag="spawned"):
    """The guest's process exists; its pidfd comes along. It says on its own channel when it is ready."""

    guest_id: int


class SpawnFailed(_Order, frozen=True, tag="spawn_failed"):
    """fork(2) failed; nothing was made."""

    guest_id: int
    problem: str


class Pong(_Order, frozen=True, tag="pong"):
    """The answer to `Ping`."""


class Exited(_Order, frozen=True, tag="exited"):
    """The guest is gone and reaped."""

    guest_id: int
    status: int
    """As waitpid(2) gives it."""
    cpu_seconds: float
    peak_memory_bytes: int


ZygoteReport: TypeAlias = NeedIdMap | ZygoteReady | ZygoteFailed | Spawned | SpawnFailed | Pong | Exited

MAX_ORDER_BYTES = 64 * 1024

_encoder = msgspec.msgpack.Encoder()
_order_decoder: msgspec.msgpack.Decoder[HostOrder] = msgspec.msgpack.Decoder(HostOrder)
_report_decoder: msgspec.msgpack.Decoder[ZygoteReport] = msgspec.msgpack.Decoder(ZygoteReport)


def encode_order(order: HostOrder | ZygoteReport) -> bytes:
    """One order or report as a packet."""
    return _encoder.encode(order)


def decode_order(packet: bytes) -> HostOrder:
    """The host's order."""
    return _order_decoder.decode(packet)


def decode_report(packet: bytes) -> ZygoteReport:
    """The zygote's report. The zygote is trusted until it forks, yet decoded as strictly as a guest."""
    return _report_decoder.decode(packet)
