"""Arrays, columns and tables as they come back: plain Python, with ways into numpy and pandas."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import pandas

_SHOWN_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An n-dimensional array in C order."""

    dtype: str
    shape: tuple[int, ...]
    values: Sequence[Any]
    """The elements in C order; the first ones when `truncated`."""
    total_count: int
    """How many elements there were in all: the product of `shape`."""

    @property
    def truncated(self) -> bool:
        """Whether `values` is less than there was."""
        return len(self.values) < self.total_count

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def tolist(self) -> Any:
        """Nested lists of the array's shape; flat when elements are missing."""
        if self.truncated or not self.shape:
            return list(self.values) if self.shape or not self.values else self.values[0]
        return _nest(list(self.values), self.shape)

    def to_numpy(self) -> "numpy.ndarray[Any, Any]":
        """A numpy array; numpy must be installed. Flat when elements are missing."""
        import numpy

        kind = object if self.dtype == "object" else self.dtype
        try:
            flat = numpy.array(list(self.values), dtype=kind)
        except (TypeError, ValueError):
            flat = numpy.array(list(self.values), dtype=object)
        return flat if self.truncated else flat.reshape(self.shape)


def _nest(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(shape) == 1:
        return values
    step = len(values) // shape[0] if shape[0] else 0
    return [_nest(values[row * step : (row + 1) * step], shape[1:]) for row in range(shape[0])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column with its name."""

    name: str
    dtype: str
    values: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One labelled column."""

    column: Column
    index: Column | None = None
    """Row labels; None when they are 0, 1, 2 and so on."""
    total_rows: int

    @property
    def truncated(self) -> bool:
        """Whether rows are missing."""
        return len(self.column) < self.total_rows

    def to_dict(self) -> dict[Any, Any]:
        """Values by row label."""
        labels = self.index.values if self.index else range(len(self.column))
        return dict(zip(labels, self.column.values, strict=False))

    def to_pandas(self) -> "pandas.Series[Any]":
        """A pandas Series; pandas must be installed."""
        import pandas

        index = list(self.index.values) if self.index else None
        values = pandas.Series(list(self.column.values), index=index, name=self.column.name or None)
        return _typed(values, self.column.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns of equal length."""

    columns: tuple[Column, ...]
    """The columns; the first ones when `total_columns` is larger."""
    index: Column | None = None
    """Row labels; None when they are 0, 1, 2 and so on."""
    total_rows: int
    total_columns: int

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns here."""
        return tuple(column.name for column in self.columns)

    @property
    def truncated(self) -> bool:
        """Whether rows or columns are missing."""
        return len(self) < self.total_rows or len(self.columns) < self.total_columns

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as dicts by column name."""
        names = self.column_names
        for row in zip(*(column.values for column in self.columns), strict=True):
            yield dict(zip(names, row, strict=True))

    def to_pandas(self) -> "pandas.DataFrame":
        """A pandas DataFrame of the rows here; pandas must be installed."""
        import pandas

        index = list(self.index.values) if self.index else None
        columns = [
            _typed(pandas.Series(list(column.values), index=index, name=column.name), column.dtype)
            for column in self.columns
        ]
        return pandas.concat(columns, axis=1) if columns else pandas.DataFrame(index=index)

    def __str__(self) -> str:
        lines = ["\t".join(self.column_names)]
        for number, row in enumerate(self.rows()):
            if number == _SHOWN_ROWS:
                break
            lines.append("\t".join(str(item) for item in row.values()))
        lines.append(f"[{self.total_rows} rows x {self.total_columns} columns]")
        return "\n".join(lines)


def _typed(values: Any, dtype: str) -> "pandas.Series[Any]":
    """`values` with the type they had in the sandbox, where that type is known here and holds them."""
    try:
        typed: pandas.Series[Any] = values.astype(dtype)
    except (TypeError, ValueError):
        typed = values
    return typed
