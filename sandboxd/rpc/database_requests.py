"""Reads the requests of DatabaseService: statements, parameters, caps and filters."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import timestamp_pb2
from sandboxd_api.v1 import database_service_pb2 as pb
from sandboxd_api.v1 import query_record_pb2, sandbox_pb2, value_pb2

from sandboxd.channel import values as channel
from sandboxd.channel.values import Value
from sandboxd.database.audit import AuditFilter, Verdict
from sandboxd.database.grants import QueryLimits
from sandboxd.errors import InvalidArgument
from sandboxd.rpc import requests

_MAX_PARAMETERS = 1000
_MAX_DEPTH = 16


def statement(sql: str) -> str:
    """A statement that is there. Its length is the gateway's to judge, as that of one from user code."""
    if not sql.strip():
        raise InvalidArgument(field="sql", problem="is required: one SQL statement")
    return sql


def limits(message: sandbox_pb2.QueryLimits, granted: QueryLimits) -> QueryLimits:
    """The caps of one query, none above the grant's."""
    timeout = None
    if message.HasField("timeout"):
        timeout = requests.duration(message.timeout, "limits.timeout", most=granted.timeout)
    return granted.lowered(
        max_rows=_cap(message, "max_rows", granted.max_rows),
        max_bytes=_cap(message, "max_bytes", granted.max_bytes),
        timeout=timeout,
    )


def _cap(message: sandbox_pb2.QueryLimits, name: str, most: int) -> int | None:
    if not message.HasField(name):  # type: ignore[arg-type]  # one of two literal names
        return None
    value = int(getattr(message, name))
    if not 1 <= value <= most:
        raise InvalidArgument(field=f"limits.{name}", problem=f"must be from 1 to {most}, not {value}")
    return value


def parameters(message: Mapping[str, value_pb2.Value]) -> tuple[tuple[str, Value], ...]:
    """Named parameters as the channel has them."""
    if len(message) > _MAX_PARAMETERS:
        raise InvalidArgument(field="parameters", problem=f"has more than {_MAX_PARAMETERS} entries")
    return tuple(
        (name, _value(item, f"parameters[{name[:60]!r}]", _MAX_DEPTH)) for name, item in message.items()
    )


def _value(message: value_pb2.Value, field: str, depth: int) -> Value:
    kind = message.WhichOneof("kind")
    if depth <= 0:
        raise InvalidArgument(field=field, problem="is nested too deep")
    if kind in _NESTED:
        inner = getattr(message, kind)
        if kind == "record":
            fields = [(item.name, _value(item.value, field, depth - 1)) for item in inner.fields]
            return channel.RecordValue(fields, len(fields))
        items = [_value(item, field, depth - 1) for item in inner.items]
        return channel.ListValue(items, len(items))
    read = _READERS.get(kind or "")
    if read is None:
        raise InvalidArgument(field=field, problem="is not a value that a statement can take")
    return read(message)


_NESTED = frozenset({"list", "tuple", "set", "record"})


def _timestamp(message: value_pb2.Value) -> Value:
    instant = message.timestamp.instant
    return channel.TimestampValue(instant.seconds, instant.nanos, message.timestamp.offset_seconds)


def _interval(message: value_pb2.Value) -> Value:
    interval = message.interval
    return channel.IntervalValue(interval.months, interval.days, interval.micros)


_READERS: dict[str, Callable[[Any], Value]] = {
    "null": lambda _: channel.NullValue(),
    "boolean": lambda message: channel.BoolValue(message.boolean),
    "integer": lambda message: channel.IntValue(message.integer),
    "big_integer": lambda message: channel.BigIntValue(message.big_integer),
    "floating": lambda message: channel.FloatValue(message.floating),
    "decimal": lambda message: channel.DecimalValue(message.decimal),
    "text": lambda message: channel.TextValue(message.text, len(message.text)),
    "data": lambda message: channel.BytesValue(message.data, len(message.data)),
    "timestamp": _timestamp,
    "local_datetime": lambda message: channel.LocalDatetimeValue(message.local_datetime),
    "date": lambda message: channel.DateValue(message.date),
    "time": lambda message: channel.TimeValue(message.time),
    "duration_micros": lambda message: channel.DurationValue(message.duration_micros),
    "interval": _interval,
    "uuid": lambda message: channel.UuidValue(message.uuid),
    "json": lambda message: channel.JsonValue(message.json),
}


def audit_filter(message: pb.ListQueriesRequest, *, principal: str) -> AuditFilter:
    """Which audit records; those of the caller alone."""
    verdicts = set()
    for verdict in message.verdicts:
        known = requests.known_enum(verdict, query_record_pb2.QueryRecord.Verdict, "verdicts")
        name = query_record_pb2.QueryRecord.Verdict.Name(known).removeprefix("VERDICT_")
        if name == "UNSPECIFIED":
            raise InvalidArgument(field="verdicts", problem="must not hold VERDICT_UNSPECIFIED")
        verdicts.add(Verdict(name))
    return AuditFilter(
        principal=principal,
        user_id=message.user_id,
        sandbox_id=message.sandbox_id,
        execution_id=message.execution_id,
        database=message.database,
        query_id=message.query_id,
        verdicts=frozenset(verdicts),
        start_time=_moment(message.start_time, "start_time") if message.HasField("start_time") else None,
        end_time=_moment(message.end_time, "end_time") if message.HasField("end_time") else None,
    )


def _moment(message: timestamp_pb2.Timestamp, field: str) -> datetime:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            seconds=message.seconds, microseconds=message.nanos // 1000
        )
    except OverflowError:
        raise InvalidArgument(field=field, problem="is not a time of this era") from None
