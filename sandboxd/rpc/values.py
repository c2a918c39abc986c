"""Typed values of the channel as they go over the wire: one function a kind, nothing interpreted."""

from collections.abc import Callable
from typing import Any

from sandboxd_api.v1 import value_pb2 as wire

from sandboxd.channel import values as channel


def to_wire(value: channel.Value) -> wire.Value:
    """The wire form of a value."""
    message = wire.Value()
    fill(message, value)
    return message


def fill(message: wire.Value, value: channel.Value) -> None:
    """Writes the wire form of a value into `message`: copying a large one takes a second."""
    _FILLERS[type(value)](message, value)


def _fill_items(target: Any, items: list[channel.Value]) -> None:
    """Short, since a list may have a million of them."""
    add, fillers = target.add, _FILLERS
    for item in items:
        fillers[type(item)](add(), item)


def fill_column(target: wire.ColumnValues, column: channel.Column) -> None:
    """The values of a column."""
    match column:
        case channel.IntColumn():
            target.integers.values.extend(column.values)
            target.integers.nulls.extend(column.nulls)
            target.integers.SetInParent()
        case channel.FloatColumn():
            target.floatings.values.extend(column.values)
            target.floatings.nulls.extend(column.nulls)
            target.floatings.SetInParent()
        case channel.BoolColumn():
            target.booleans.values.extend(column.values)
            target.booleans.nulls.extend(column.nulls)
            target.booleans.SetInParent()
        case channel.TextColumn():
            target.texts.values.extend(column.values)
            target.texts.nulls.extend(column.nulls)
            target.texts.SetInParent()
        case channel.ValueColumn():
            target.mixed.SetInParent()
            _fill_items(target.mixed.values, column.values)


def fill_named_column(target: wire.NamedColumn, column: channel.NamedColumn) -> None:
    """Name, dtype and values of a column."""
    target.name = column.name
    target.dtype = column.dtype
    fill_column(target.values, column.values)


def _null(message: wire.Value, _value: Any) -> None:
    message.null.SetInParent()


def _boolean(message: wire.Value, value: channel.BoolValue) -> None:
    message.boolean = value.value
    if value.type_name:
        message.type_name = value.type_name


def _integer(message: wire.Value, value: channel.IntValue) -> None:
    message.integer = value.value
    if value.type_name:
        message.type_name = value.type_name


def _big_integer(message: wire.Value, value: channel.BigIntValue) -> None:
    message.big_integer = value.text


def _floating(message: wire.Value, value: channel.FloatValue) -> None:
    message.floating = value.value
    if value.type_name:
        message.type_name = value.type_name


def _complex(message: wire.Value, value: channel.ComplexValue) -> None:
    message.complex.real = value.real
    message.complex.imaginary = value.imag
    message.complex.SetInParent()


def _decimal(message: wire.Value, value: channel.DecimalValue) -> None:
    message.decimal = value.text


def _text(message: wire.Value, value: channel.TextValue) -> None:
    message.text = value.text
    if value.type_name:
        message.type_name = value.type_name
    if value.total_length > len(value.text):
        message.total_length = value.total_length


def _data(message: wire.Value, value: channel.BytesValue) -> None:
    message.data = value.data
    if value.type_name:
        message.type_name = value.type_name
    if value.total_length > len(value.data):
        message.total_length = value.total_length


def _timestamp(message: wire.Value, value: channel.TimestampValue) -> None:
    message.timestamp.instant.seconds = value.seconds
    message.timestamp.instant.nanos = value.nanos
    message.timestamp.offset_seconds = value.offset_seconds
    message.timestamp.instant.SetInParent()


def _local_datetime(message: wire.Value, value: channel.LocalDatetimeValue) -> None:
    message.local_datetime = value.text


def _date(message: wire.Value, value: channel.DateValue) -> None:
    message.date = value.text


def _time(message: wire.Value, value: channel.TimeValue) -> None:
    message.time = value.text


def _duration(message: wire.Value, value: channel.DurationValue) -> None:
    message.duration_micros = value.micros


def _interval(message: wire.Value, value: channel.IntervalValue) -> None:
    message.interval.months = value.months
    message.interval.days = value.days
    message.interval.micros = value.micros
    message.interval.SetInParent()


def _uuid(message: wire.Value, value: channel.UuidValue) -> None:
    message.uuid = value.text


def _json(message: wire.Value, value: channel.JsonValue) -> None:
    message.json = value.text


def _list(message: wire.Value, value: channel.ListValue) -> None:
    message.list.total_count = value.total_count
    message.list.SetInParent()
    _fill_items(message.list.items, value.items)


def _tuple(message: wire.Value, value: channel.TupleValue) -> None:
    message.tuple.total_count = value.total_count
    message.tuple.SetInParent()
    _fill_items(message.tuple.items, value.items)


def _set(message: wire.Value, value: channel.SetValue) -> None:
    message.set.total_count = value.total_count
    message.set.frozen = value.frozen
    message.set.SetInParent()
    _fill_items(message.set.items, value.items)


def _record(message: wire.Value, value: channel.RecordValue) -> None:
    message.record.total_count = value.total_count
    message.record.SetInParent()
    add = message.record.fields.add
    for name, item in value.fields:
        _FILLERS[type(item)](add(name=name).value, item)


def _map(message: wire.Value, value: channel.MapValue) -> None:
    message.map.total_count = value.total_count
    message.map.SetInParent()
    add = message.map.entries.add
    for key, item in value.entries:
        entry = add()
        fill(entry.key, key)
        fill(entry.value, item)


def _description(message: wire.Value, value: channel.DescriptionValue) -> None:
    message.description.type_name = value.type_name
    message.description.text = value.text
    message.description.truncated = value.truncated
    message.description.SetInParent()


def _array(message: wire.Value, value: channel.ArrayValue) -> None:
    message.array.dtype = value.dtype
    message.array.shape.extend(value.shape)
    message.array.total_count = value.total_count
    fill_column(message.array.values, value.values)
    message.array.SetInParent()


def _table(message: wire.Value, value: channel.TableValue) -> None:
    message.table.total_rows = value.total_rows
    message.table.total_columns = value.total_columns
    message.table.SetInParent()
    for column in value.columns:
        fill_named_column(message.table.columns.add(), column)
    if value.index is not None:
        fill_named_column(message.table.index, value.index)


def _series(message: wire.Value, value: channel.SeriesValue) -> None:
    message.series.total_rows = value.total_rows
    fill_named_column(message.series.column, value.column)
    if value.index is not None:
        fill_named_column(message.series.index, value.index)


_FILLERS: dict[type, Callable[[wire.Value, Any], None]] = {
    channel.NullValue: _null,
    channel.BoolValue: _boolean,
    channel.IntValue: _integer,
    channel.BigIntValue: _big_integer,
    channel.FloatValue: _floating,
    channel.ComplexValue: _complex,
    channel.DecimalValue: _decimal,
    channel.TextValue: _text,
    channel.BytesValue: _data,
    channel.TimestampValue: _timestamp,
    channel.LocalDatetimeValue: _local_datetime,
    channel.DateValue: _date,
    channel.TimeValue: _time,
    channel.DurationValue: _duration,
    channel.IntervalValue: _interval,
    channel.UuidValue: _uuid,
    channel.JsonValue: _json,
    channel.ListValue: _list,
    channel.TupleValue: _tuple,
    channel.SetValue: _set,
    channel.RecordValue: _record,
    channel.MapValue: _map,
    channel.DescriptionValue: _description,
    channel.ArrayValue: _array,
    channel.TableValue: _table,
    channel.SeriesValue: _series,
}
