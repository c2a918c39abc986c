"""A result's columns as pandas and pyarrow columns; packed ones are taken as they lie in memory."""

from typing import Any

import numpy as np
import pandas as pd

from sandboxd.channel import values
from sandboxd.channel.packed import CodedTextColumn, NumbersColumn, ResultCells
from sandboxd.guest.from_values import ARRAY_CODES, column_to_python

_NO_TIME = np.iinfo(np.int64).min
"""What numpy keeps for "not a time"."""


def series_of(column: ResultCells) -> Any:
    """What a DataFrame makes a column of."""
    match column:
        case NumbersColumn():
            return _packed_numbers(column)
        case CodedTextColumn():
            texts = pd.Series(column.texts).array  # as pandas keeps text: str since 3, object before
            return texts.take(np.frombuffer(column.codes, dtype=np.int32), allow_fill=True)
        case values.IntColumn(values=cells, nulls=[]):
            return np.array(cells, dtype=np.int64)
        case values.IntColumn():
            return pd.array(column_to_python(column), dtype="Int64")
        case values.FloatColumn(values=cells, nulls=nulls):
            numbers = np.array(cells, dtype=np.float64)
            numbers[nulls] = np.nan
            return numbers
        case values.BoolColumn(values=cells, nulls=[]):
            return np.array(cells, dtype=bool)
        case values.BoolColumn():
            return pd.array(column_to_python(column), dtype="boolean")
    return pd.Series(column_to_python(column))


def _packed_numbers(column: NumbersColumn) -> Any:
    numbers = np.frombuffer(column.data, dtype=ARRAY_CODES[column.kind]).copy()
    nulls = np.frombuffer(column.nulls, dtype=np.int32)
    missing = np.zeros(len(numbers), dtype=bool)
    missing[nulls] = True
    match column.kind:
        case "float64":
            numbers[nulls] = np.nan
            return numbers
        case "timestamp" | "timestamptz":
            numbers[nulls] = _NO_TIME
            moments = pd.Series(numbers.view("M8[us]"))
            return moments if column.kind == "timestamp" else moments.dt.tz_localize("UTC")
        case "int64":
            return pd.arrays.IntegerArray(numbers, missing) if len(nulls) else numbers
        case "bool":
            truths = numbers.view(bool)
            return pd.arrays.BooleanArray(truths, missing) if len(nulls) else truths


def arrow_column(column: ResultCells) -> Any:
    """A pyarrow array."""
    import pyarrow as pa

    if isinstance(column, CodedTextColumn):
        codes = np.frombuffer(column.codes, dtype=np.int32)
        return pa.array(column.texts, type=pa.string()).take(pa.array(codes, mask=codes < 0))
    if isinstance(column, NumbersColumn):
        numbers = np.frombuffer(column.data, dtype=ARRAY_CODES[column.kind])
        missing = np.zeros(len(numbers), dtype=bool)
        missing[np.frombuffer(column.nulls, dtype=np.int32)] = True
        if column.kind == "bool":
            return pa.array(numbers.view(bool), mask=missing)
        zone = "UTC" if column.kind == "timestamptz" else None
        kind = pa.timestamp("us", zone) if column.kind.startswith("timestamp") else None
        return pa.array(numbers, mask=missing).cast(kind) if kind else pa.array(numbers, mask=missing)
    return pa.array(column_to_python(column))
