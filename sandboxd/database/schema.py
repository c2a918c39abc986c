"""What a database looks like to someone who writes SQL: tables, columns, keys, indexes, comments."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    """A column of a table or view."""

    name: str
    db_type: str
    """Type as the database writes it, e.g. `timestamp with time zone`; empty where SQLite has none."""
    nullable: bool
    primary_key: bool = False
    default: str | None = None
    """The default as an SQL expression; None when there is none."""
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """Columns that refer to columns of another table."""

    columns: tuple[str, ...]
    target_table: str
    target_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Another table's foreign key that points here."""

    table: str
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]
    """The columns of this table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index; expressions in it are given as text."""

    name: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table or view that may be read."""

    name: str
    """As it is written in SQL; with its schema where that is not the default one."""
    kind: Literal["table", "view"] = "table"
    columns: tuple[TableColumn, ...] = ()
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    referenced_by: tuple[Reference, ...] = ()
    indexes: tuple[Index, ...] = ()
    comment: str = ""
    estimated_rows: int | None = None
    """The engine's own estimate; None when it has none."""
