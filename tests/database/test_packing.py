"""Long columns become buffers: whatever comes, in whatever batches, the guest sees what the engine gave."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.channel.packed import CodedTextColumn, NumbersColumn, ResultCells
from sandboxd.channel.query import QueryReply, ResultColumn
from sandboxd.database.worker.encoding import column_of
from sandboxd.database.worker.packing import ColumnPacker
from sandboxd.guest.frames import series_of
from sandboxd.guest.from_values import column_to_python
from sandboxd.guest.rows import Rows

_times = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1))  # noqa: DTZ001
_cells = (
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(max_size=3),
    _times,
    _times.map(lambda moment: moment.replace(tzinfo=UTC)),
    _times.map(lambda moment: moment.replace(tzinfo=timezone(timedelta(hours=2)))),
    st.dates(min_value=date(1900, 1, 1)),
    st.decimals(allow_nan=False, allow_infinity=False, places=2),
)
_columns = st.one_of(
    *(st.lists(st.one_of(st.none(), kind), max_size=30) for kind in _cells),
    st.lists(st.one_of(st.none(), *_cells), max_size=30),
)


def packed(cells: Sequence[Any], batch: int = 7) -> ResultCells:
    """The column as the guest decodes it."""
    packer = ColumnPacker()
    for start in range(0, len(cells), batch):
        part = cells[start : start + batch]
        packer.add(part, set(map(type, part)))
    data = msgspec.msgpack.encode(packer.column())
    return msgspec.msgpack.decode(data, type=ResultCells)  # type: ignore[arg-type]  # a union of structs


@given(_columns, st.integers(1, 12))
def test_any_column_comes_out_as_it_went_in(cells: list[Any], batch: int) -> None:
    found = column_to_python(packed(cells, batch))
    assert found == cells
    assert list(map(type, found)) == list(map(type, cells))


@given(_columns)
def test_packed_column_makes_the_series_that_the_plain_one_makes(cells: list[Any]) -> None:
    pd.testing.assert_series_equal(
        pd.Series(series_of(packed(cells))), pd.Series(series_of(column_of(cells))), check_freq=False
    )


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        ([1, None, 3] * 5, NumbersColumn),
        ([None] * 20 + [1.5], NumbersColumn),
        ([True, None] * 9, NumbersColumn),
        ([datetime(2024, 1, 2, tzinfo=UTC)] * 9, NumbersColumn),
        (["a", "b", None] * 9, CodedTextColumn),
    ],
    ids=["integers", "NULL first", "truth values", "times", "repeating texts"],
)
def test_plain_kinds_are_packed(cells: list[Any], form: type) -> None:
    assert isinstance(packed(cells), form)


@pytest.mark.parametrize(
    "cells",
    [
        [1, 2, 3] * 5 + [1.5],
        [1, None] * 5 + ["x"],
        [True] * 9 + [2],
        ["x"] * 9 + [Decimal(1)],
        [datetime(2024, 1, 2, tzinfo=UTC)] * 9 + [datetime(2024, 1, 2)],  # noqa: DTZ001
        [str(number) for number in range(5000)],
        [None] * 9,
    ],
    ids=["float late", "text late", "integer late", "decimal late", "no zone", "all differ", "NULL"],
)
def test_column_that_does_not_fit_a_form_is_kept_as_it_is(cells: list[Any]) -> None:
    column = packed(cells)
    assert not isinstance(column, NumbersColumn | CodedTextColumn)
    assert column_to_python(column) == cells


def test_rows_without_pyarrow_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"rows\.df\(\).*sandboxd\[arrow\]"):
        rows([[1]]).arrow()


def test_arrow_table_holds_what_the_rows_hold() -> None:
    pytest.importorskip("pyarrow")
    columns = [
        [1, None, 3],
        [0.5, 1.5, None],
        [True, None, False],
        ["a", None, "b"],
        [datetime(2024, 1, 2, tzinfo=UTC), None, datetime(2024, 1, 3, tzinfo=UTC)],
        [date(2024, 1, 2), None, date(2024, 1, 3)],
        [Decimal("1.50"), None, Decimal("2.25")],
    ]
    found = rows(columns)
    assert found.arrow().to_pylist() == found.to_list()


def rows(columns: Sequence[Sequence[Any]]) -> Rows:
    """Rows of these columns."""
    reply = QueryReply(
        columns=[ResultColumn(name=f"c{number}", db_type="") for number in range(len(columns))],
        data=[packed(cells) for cells in columns],
        total_rows=len(columns[0]),
    )
    return Rows(reply)
