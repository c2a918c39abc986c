"""Reads single fields and executions once, at the edge: what comes out is valid, else it is refused by field.

Every function here raises only `InvalidArgument`; nothing below checks again.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf import duration_pb2
from sandboxd_api.v1 import execution_pb2

from sandboxd.channel.debug import DebugSettings
from sandboxd.channel.messages import Input
from sandboxd.errors import InvalidArgument
from sandboxd.executions.model import ExecutionKind, ExecutionRequest, WhenBusy
from sandboxd.limits import MIB, Limits

_MAX_USER_ID_LENGTH = 128
_MAX_INPUTS = 32
_MAX_INPUT_BYTES = 1 * MIB
_MAX_ID_LENGTH = 64
_MIN_TIMEOUT = timedelta(milliseconds=1)


def identifier(value: str, field: str) -> str:
    """An id that the server made; whether it exists is another question."""
    if not value:
        raise InvalidArgument(field=field, problem="is required")
    if len(value) > _MAX_ID_LENGTH:
        raise InvalidArgument(field=field, problem=f"is longer than {_MAX_ID_LENGTH} characters: not an id")
    return value


def request_id(value: str) -> str:
    """Empty, or a UUID in its canonical form."""
    if not value:
        return ""
    try:
        canonical = str(uuid.UUID(value))
    except ValueError:
        canonical = ""
    if canonical != value.lower():
        raise InvalidArgument(
            field="request_id",
            problem=f"must be a UUID such as 123e4567-e89b-42d3-a456-426614174000, not {shown(value)}",
        )
    return canonical


def user_id(value: str) -> str:
    """Empty, or a name of at most 128 printable characters."""
    if len(value) > _MAX_USER_ID_LENGTH or not value.isprintable():
        raise InvalidArgument(
            field="user_id", problem=f"must be at most {_MAX_USER_ID_LENGTH} printable characters"
        )
    return value


def page_size(value: int, *, default: int, most: int) -> int:
    """A page size; 0 is the default, more than the most is refused."""
    if not 0 <= value <= most:
        raise InvalidArgument(
            field="page_size", problem=f"must be from 1 to {most}, or 0 for {default}; not {value}"
        )
    return value or default


def duration(message: duration_pb2.Duration, field: str, *, most: timedelta) -> timedelta:
    """A positive length of time, at most `most`."""
    valid = abs(message.seconds) <= 10**9 and 0 <= message.nanos < 10**9
    value = timedelta(seconds=message.seconds, microseconds=message.nanos / 1000) if valid else timedelta(0)
    if not _MIN_TIMEOUT <= value <= most:
        raise InvalidArgument(
            field=field,
            problem=f"must be from 0.001 s to {most.total_seconds():g} s; "
            f"{message.seconds + message.nanos / 1e9:g} s was sent",
        )
    return value


def in_range(value: int, field: str, *, least: int, most: int) -> int:
    """A number from `least` to `most`."""
    if not least <= value <= most:
        raise InvalidArgument(field=field, problem=f"must be from {least} to {most}; {value} was sent")
    return value


def source(code: str, limits: Limits, field: str = "code") -> str:
    """Source text that is there and fits."""
    if not code.strip():
        raise InvalidArgument(field=field, problem="is required: Python source text")
    size = len(code.encode())
    if size > limits.source_bytes:
        raise InvalidArgument(
            field=field, problem=f"has {size} bytes of UTF-8; at most {limits.source_bytes} are allowed"
        )
    return code


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The limits under which a request is read, and which call it is."""

    limits: Limits
    kind: ExecutionKind


def execution(
    *,
    code: str,
    request_id_text: str,
    options: execution_pb2.ExecutionOptions,
    target: Target,
    extra_inputs: tuple[Input, ...] = (),
    debug: DebugSettings | None = None,
) -> ExecutionRequest:
    """What is to be run and how."""
    timeout = None
    if options.HasField("timeout"):
        timeout = duration(options.timeout, "options.timeout", most=target.limits.execution_timeout)
    busy = known_enum(options.if_busy, execution_pb2.ExecutionOptions.IfBusy, "options.if_busy")
    gone = known_enum(
        options.on_disconnect, execution_pb2.ExecutionOptions.OnDisconnect, "options.on_disconnect"
    )
    return ExecutionRequest(
        code=source(code, target.limits),
        kind=target.kind,
        request_id=request_id(request_id_text),
        timeout=timeout,
        rollback_on_error=options.rollback_on_error,
        capture_frames=options.capture_frames if options.HasField("capture_frames") else None,
        when_busy=WhenBusy.REFUSE
        if busy == execution_pb2.ExecutionOptions.IF_BUSY_REFUSE
        else WhenBusy.QUEUE,
        detach_on_disconnect=gone == execution_pb2.ExecutionOptions.ON_DISCONNECT_DETACH,
        inputs=(*_inputs(options.inputs), *extra_inputs),
        debug=debug,
    )


def _inputs(messages: Iterable[execution_pb2.InputVariable]) -> tuple[Input, ...]:
    inputs = tuple(_input(message, f"options.inputs[{number}]") for number, message in enumerate(messages))
    if len(inputs) > _MAX_INPUTS:
        raise InvalidArgument(
            field="options.inputs", problem=f"has {len(inputs)} entries; at most {_MAX_INPUTS}"
        )
    return inputs


def _input(message: execution_pb2.InputVariable, field: str) -> Input:
    if not message.name.isidentifier() or message.name.startswith("__"):
        raise InvalidArgument(
            field=f"{field}.name", problem=f"{shown(message.name)} is not a Python name without leading __"
        )
    match message.WhichOneof("content"):
        case "json":
            return Input(
                name=message.name, format="json", payload=bounded_text(message.json, f"{field}.json")
            )
        case "csv":
            return Input(name=message.name, format="csv", payload=bounded_text(message.csv, f"{field}.csv"))
        case _:
            raise InvalidArgument(field=f"{field}.content", problem="is required: json or csv")


def bounded_text(text: str, field: str) -> str:
    """Input text of at most 1 MiB."""
    size = len(text.encode())
    if size > _MAX_INPUT_BYTES:
        raise InvalidArgument(
            field=field, problem=f"has {size} bytes; at most {_MAX_INPUT_BYTES} are allowed"
        )
    return text


def known_enum(value: Any, enum: Any, field: str) -> Any:
    """A value of an enum that this server knows."""
    if value not in enum.values():
        names = ", ".join(name for name, number in enum.items() if number)
        raise InvalidArgument(field=field, problem=f"{value} is not a known value; known: {names}")
    return value


def shown(text: str) -> str:
    """What was sent, for an error: quoted, and cut where it is long."""
    return repr(text if len(text) <= 40 else text[:40] + "...")
