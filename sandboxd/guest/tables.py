"""Arrays, frames and series as typed columns: their first rows, as many as there is room for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sandboxd.channel.values import (
    ArrayValue,
    BoolColumn,
    Column,
    FloatColumn,
    IntColumn,
    NamedColumn,
    SeriesValue,
    TableValue,
    TextColumn,
    Value,
    ValueColumn,
)
from sandboxd.guest.summary import INDEXES
from sandboxd.guest.type_names import clean_text

if TYPE_CHECKING:
    from sandboxd.guest.describe import Describer

_NUMBER_BYTES = 9
_MOST_COLUMNS = 2000
_COLUMN_BYTES = 80
_INT64_MAX = 2**63 - 1


def array(describer: "Describer", value: Any, depth: int) -> Value:
    """An ndarray in C order."""
    budget = describer.budget
    budget.take(100)
    rows = min(value.size, max(budget.left, 0) // _NUMBER_BYTES)
    column = _column(describer, value.flat[:rows] if value.size else value.reshape(-1), depth)
    if _length(column) < value.size:
        budget.truncated = True
    return ArrayValue(
        dtype=clean_text(str(value.dtype), 200),
        shape=list(value.shape),
        values=column,
        total_count=value.size,
    )


def series(describer: "Describer", value: Any, depth: int) -> Value:
    """A Series with its index."""
    columns, index_column, rows = _fit_rows(describer, [value], [value.name], value.index, depth)
    if rows < len(value):
        describer.budget.truncated = True
    return SeriesValue(column=columns[0], index=index_column, total_rows=len(value))


def frame(describer: "Describer", value: Any, depth: int) -> Value:
    """A DataFrame with its index."""
    total_rows, total_columns = value.shape
    most = min(_MOST_COLUMNS, max(describer.budget.left, 0) // _COLUMN_BYTES)
    labels = list(value.columns[:most])
    parts = [value.iloc[:, position] for position in range(len(labels))]
    columns, index_column, rows = _fit_rows(describer, parts, labels, value.index, depth)
    if rows < total_rows or len(labels) < total_columns:
        describer.budget.truncated = True
    return TableValue(columns=columns, index=index_column, total_rows=total_rows, total_columns=total_columns)


def index(describer: "Describer", value: Any, depth: int) -> Value:
    """An Index, as the series of its labels."""
    return series(describer, value.to_series(index=range(len(value))), depth)


def _fit_rows(
    describer: "Describer", parts: list[Any], labels: list[Any], index_: Any, depth: int
) -> tuple[list[NamedColumn], NamedColumn | None, int]:
    """Tries with as many rows as numbers would leave room for; text and rich values need fewer."""
    budget = describer.budget
    budget.take(_COLUMN_BYTES * len(parts))
    with_index = not _is_default(index_)
    width = _NUMBER_BYTES * max(len(parts) + with_index, 1)
    rows = min(len(index_), max(budget.left, 0) // width)
    start = budget.left
    while True:
        budget.left = start
        columns = [
            _named(describer, label, part.iloc[:rows], depth)
            for label, part in zip(labels, parts, strict=True)
        ]
        index_column = _named(describer, index_.name, index_[:rows], depth) if with_index else None
        complete = all(_length(each.values) == rows for each in columns) and (
            index_column is None or _length(index_column.values) == rows
        )
        if (complete and budget.left >= 0) or rows == 0:
            return columns, index_column, rows
        used = max(start - budget.left, 1)
        rows = min(rows // 2, int(rows * 0.9 * start / used)) if rows > 1 else 0


def _is_default(index_: Any) -> bool:
    return type(index_) is pd.RangeIndex and index_.start == 0 and index_.step == 1 and index_.name is None


def _named(describer: "Describer", label: Any, values: Any, depth: int) -> NamedColumn:
    name = "" if label is None else clean_text(label if type(label) is str else str(label), 200)
    dtype = clean_text(str(values.dtype), 200)
    return NamedColumn(name=name, dtype=dtype, values=_pandas_column(describer, values, depth))


def _pandas_column(describer: "Describer", values: Any, depth: int) -> Column:
    """One column of a frame; extension dtypes mark missing values, numpy's NaN stays NaN."""
    if isinstance(values, pd.MultiIndex):
        return _column(describer, values.to_numpy(), depth)
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _column(describer, values.to_numpy(), depth)
    if isinstance(dtype, pd.CategoricalDtype):
        return _column(describer, np.asarray(values.astype(object), dtype=object), depth)
    missing = np.flatnonzero(np.asarray(values.isna())).tolist()
    kind = getattr(dtype, "kind", "O")
    if kind in "iuf" and not isinstance(dtype, pd.SparseDtype):
        return _numbers(describer, values.to_numpy(dtype=f"{kind}8", na_value=0), missing)
    if kind == "b":
        describer.budget.left -= len(values)
        return BoolColumn(values=values.to_numpy(dtype=bool, na_value=False).tolist(), nulls=missing)
    return _column(describer, np.asarray(values.astype(object), dtype=object), depth)


def _column(describer: "Describer", values: Any, depth: int) -> Column:
    """A one-dimensional numpy array."""
    kind = values.dtype.kind
    if kind in "iuf":
        return _numbers(describer, values, [])
    if kind == "b":
        describer.budget.left -= len(values)
        return BoolColumn(values=values.tolist(), nulls=[])
    if kind in "OU":
        texts = _texts(describer, values)
        if texts is not None:
            return texts
    items = [values[position] for position in range(len(values))] if kind in "Mm" else values.tolist()
    return ValueColumn(values=describer.items(items, len(items), depth))


def _numbers(describer: "Describer", values: Any, nulls: list[int]) -> Column:
    describer.budget.left -= _NUMBER_BYTES * len(values) + 5 * len(nulls)
    if values.dtype.kind == "f":
        return FloatColumn(values=values.astype(np.float64).tolist(), nulls=nulls)
    numbers = values.tolist()
    if values.dtype == np.uint64 and any(number > _INT64_MAX for number in numbers):
        return ValueColumn(values=describer.items(numbers, len(numbers), 0))
    return IntColumn(values=numbers, nulls=nulls)


def _texts(describer: "Describer", values: Any) -> TextColumn | None:
    """None when something else than strings and missing values is among them."""
    texts: list[str] = []
    nulls: list[int] = []
    size = 0
    for position, each in enumerate(values.tolist()):
        if type(each) is str:
            text = each if each.isascii() else clean_text(each)
            size += (len(text) if text.isascii() else len(text.encode())) + 5
            texts.append(text)
        elif each is None or each is pd.NA or (type(each) is float and each != each):  # noqa: PLR0124  NaN
            nulls.append(position)
            texts.append("")
            size += 6
        else:
            return None
        if size > max(describer.budget.left, 0):
            break
    if len(nulls) == len(texts) and texts:
        return None
    describer.budget.left -= size
    return TextColumn(values=texts, nulls=nulls)


def _length(column: Column) -> int:
    return len(column.values)


CONVERTERS: dict[type, Callable[["Describer", Any, int], Value]] = {
    np.ndarray: array,
    pd.DataFrame: frame,
    pd.Series: series,
    **dict.fromkeys(INDEXES, index),
    pd.Categorical: lambda describer, value, depth: series(describer, pd.Series(value), depth),
}
