"""The rows of a query as user code holds them: columns underneath, dicts where somebody looks."""

import json
from collections.abc import Generator, Sequence
from typing import Any, overload

import pandas as pd

from sandboxd.channel.query import QueryReply
from sandboxd.guest.frames import arrow_column, series_of
from sandboxd.guest.from_values import column_to_python

_SHOWN_ROWS = 3
_NO_ARROW = (
    "rows.arrow() needs pyarrow, which this server does not have; rows.df() works without it "
    "(an operator adds it with: pip install 'sandboxd[arrow]')"
)


class Rows(Sequence[dict[str, Any]]):
    """Rows as dicts, made when the first of them is looked at; `len()` and `.df()` are free of that.

    A sequence like a list, comparable with one, and awaitable: `await rows` is `rows`. Hashed by
    identity, because asyncio.gather() keeps what it waits for in a dict.
    """

    def __init__(self, reply: QueryReply) -> None:
        self._data = reply.data
        self._count = reply.total_rows
        self._dicts: list[dict[str, Any]] | None = None
        self.columns: list[str] = _unique([column.name for column in reply.columns])
        """Names, in the query's order; a repeated one gets a suffix: id, id_2."""
        self.column_types: dict[str, str] = {
            name: column.db_type for name, column in zip(self.columns, reply.columns, strict=True)
        }
        """The database's own type name of each column."""
        self.truncated: bool = reply.truncated
        """Rows beyond a cap were left out."""
        self.truncated_by: str = reply.truncated_by
        """Which cap: "rows", "bytes" or nothing."""
        self.affected: int = reply.affected
        """Rows that a granted write changed."""
        self.warnings: list[str] = list(reply.warnings)

    def df(self) -> pd.DataFrame:
        """The rows as a new DataFrame. Integers and booleans with missing values keep their kind (Int64,
        boolean)."""
        return pd.DataFrame(
            {name: series_of(column) for name, column in zip(self.columns, self._data, strict=True)},
            columns=self.columns,
        )

    def arrow(self) -> Any:
        """The rows as a new pyarrow.Table; raises ImportError where pyarrow is not installed."""
        try:
            import pyarrow as pa
        except ImportError:
            raise ImportError(_NO_ARROW, name="pyarrow") from None
        return pa.table([arrow_column(column) for column in self._data], names=self.columns)

    def to_list(self) -> list[dict[str, Any]]:
        """The rows as a new list, for what takes nothing but lists."""
        return list(self._materialised())

    def _materialised(self) -> list[dict[str, Any]]:
        if self._dicts is None:
            columns = [column_to_python(column) for column in self._data]
            names = self.columns
            self._dicts = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
        return self._dicts

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._materialised()[index]

    def __iter__(self) -> Generator[dict[str, Any]]:
        yield from self._materialised()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rows):
            return self._materialised() == other._materialised()
        return self._materialised() == other if isinstance(other, list) else NotImplemented

    __hash__ = object.__hash__

    def __add__(self, other: Any) -> list[dict[str, Any]]:
        return self.to_list() + list(other)

    def __await__(self) -> Generator[None, None, "Rows"]:
        yield from ()
        return self

    def __repr__(self) -> str:
        if len(self) <= _SHOWN_ROWS:
            return repr(self._materialised())
        shown = ", ".join(map(repr, self._materialised()[:_SHOWN_ROWS]))
        return f"[{shown}, ... {len(self) - _SHOWN_ROWS} more rows]"


def let_json_take_rows() -> None:
    """Makes json.dumps() of this process, and of its forks, write rows as the list they look like."""
    refuse = json.JSONEncoder.default

    def default(self: json.JSONEncoder, o: Any) -> Any:
        return o.to_list() if isinstance(o, Rows) else refuse(self, o)

    json.JSONEncoder.default = default  # type: ignore[method-assign]


def _unique(names: list[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        unique.append(candidate)
    return unique
