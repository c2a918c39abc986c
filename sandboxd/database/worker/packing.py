"""Packs a long result's columns into buffers as its batches come: no list of all cells ever exists."""

from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sandboxd.channel.packed import CodedTextColumn, NumberKind, NumbersColumn, ResultCells
from sandboxd.database.worker.encoding import column_of

_FEW_TEXTS = 1000
_EPOCH, _NAIVE_EPOCH = datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1)  # noqa: DTZ001  column without zone
_MICROSECOND = timedelta(microseconds=1)


class Unpackable(Exception):
    """Cells are not of the form that the first ones had."""


class _Form(Protocol):
    """Cells of one kind, without NULL."""

    filler: Any
    """Stands where there is no value."""

    def add(self, cells: Sequence[Any]) -> None:
        """Takes cells; on `Unpackable` none of them."""

    def cells(self) -> list[Any]:
        """What was added."""

    def column(self, nulls: "array[int]") -> ResultCells:
        """The column."""


class _Numbers:
    def __init__(self, kind: NumberKind, code: str, filler: float) -> None:
        self.filler = filler
        self._kind: NumberKind = kind
        self._data = array(code)

    def add(self, cells: Sequence[Any]) -> None:
        self._data += array(self._data.typecode, cells)  # all or none: extend() could stop half-way

    def cells(self) -> list[Any]:
        return list(map(bool, self._data)) if self._kind == "bool" else self._data.tolist()

    def column(self, nulls: "array[int]") -> ResultCells:
        return NumbersColumn(self._kind, self._data.tobytes(), nulls.tobytes())


class _Moments:
    """Times that all have no zone, or all are in UTC."""

    def __init__(self, first: datetime) -> None:
        self._zone = first.tzinfo
        if self._zone is not None and self._zone is not UTC:
            raise Unpackable
        self._epoch = self.filler = _NAIVE_EPOCH if self._zone is None else _EPOCH
        self._data = array("q")

    def add(self, cells: Sequence[datetime]) -> None:
        zone, epoch = self._zone, self._epoch
        if any(cell.tzinfo is not zone for cell in cells):
            raise Unpackable
        self._data.extend([(cell - epoch) // _MICROSECOND for cell in cells])

    def cells(self) -> list[Any]:
        return [self._epoch + timedelta(microseconds=micros) for micros in self._data]

    def column(self, nulls: "array[int]") -> ResultCells:
        kind: NumberKind = "timestamp" if self._zone is None else "timestamptz"
        return NumbersColumn(kind, self._data.tobytes(), nulls.tobytes())


class _Numbering(dict[str, int]):
    """Gives each new text the next number."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number


class _Texts:
    """Texts of which most repeat; others are better off in a list."""

    filler = ""

    def __init__(self) -> None:
        self._numbers = _Numbering()
        self._codes = array("i")

    def add(self, cells: Sequence[str]) -> None:
        numbers = self._numbers
        if len(numbers) > _FEW_TEXTS and len(numbers) * 2 > len(self._codes):
            raise Unpackable
        self._codes.extend(map(numbers.__getitem__, cells))

    def cells(self) -> list[Any]:
        texts = list(self._numbers)
        return [texts[code] for code in self._codes]

    def column(self, nulls: "array[int]") -> ResultCells:
        for position in nulls:
            self._codes[position] = -1
        return CodedTextColumn(list(self._numbers), self._codes.tobytes())


_FORMS: dict[type, Callable[[Any], _Form]] = {
    int: lambda _: _Numbers("int64", "q", 0),
    float: lambda _: _Numbers("float64", "d", 0.0),
    bool: lambda _: _Numbers("bool", "b", 0),
    datetime: _Moments,
    str: lambda _: _Texts(),
}


class ColumnPacker:
    """One column. Cells that have no packed form, or stop to fit it, are kept as they are."""

    def __init__(self) -> None:
        self._count = 0
        self._form: _Form | None = None
        self._kind: type | None = None
        self._nulls = array("i")
        self._plain: list[Any] | None = None

    def add(self, cells: Sequence[Any], kinds: set[type]) -> None:
        """Takes the cells of one batch, which are of `kinds`."""
        if self._plain is not None:
            self._plain += cells
            return
        try:
            self._pack(cells, kinds)
        except (Unpackable, OverflowError):
            self._plain = [*self._unpacked(), *cells]
        else:
            self._count += len(cells)

    def column(self) -> ResultCells:
        """All of it."""
        if self._plain is not None:
            return column_of(self._plain)
        if self._form is None:
            return column_of([None] * self._count)
        return self._form.column(self._nulls)

    def _pack(self, cells: Sequence[Any], kinds: set[type]) -> None:
        present = kinds - {type(None)}
        if len(present) > 1:
            raise Unpackable
        if present and self._form is None:
            self._start(cells, present)
        if present and present != {self._kind}:
            raise Unpackable
        missing: list[int] = []
        filled = cells
        if len(present) != len(kinds):
            missing = [self._count + place for place, cell in enumerate(cells) if cell is None]
            filler = self._form.filler if self._form is not None else None
            filled = [filler if cell is None else cell for cell in cells]
        if self._form is not None:
            self._form.add(filled)
        self._nulls.extend(missing)

    def _start(self, cells: Sequence[Any], present: set[type]) -> None:
        (kind,) = present
        make = _FORMS.get(kind)
        if make is None:
            raise Unpackable
        form = make(next(cell for cell in cells if cell is not None))
        form.add([form.filler] * self._count)  # so far there were NULLs only
        self._form, self._kind = form, kind

    def _unpacked(self) -> list[Any]:
        cells: list[Any] = [None] * self._count if self._form is None else self._form.cells()
        for position in self._nulls:
            cells[position] = None
        return cells
