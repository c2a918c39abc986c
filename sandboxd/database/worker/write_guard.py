"""The part of the guard that matches INSERT, UPDATE and DELETE against the write grants."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from sqlglot import exp

from sandboxd.database.grants import Operation, WriteGrant
from sandboxd.database.worker.lexer import Dialect, ascii_lower
from sandboxd.database.worker.refusal import Layer, Reason, Refusal


class WriteUse(NamedTuple):
    """What a granted statement changes."""

    table: str
    operations: tuple[Operation, ...]
    """INSERT and UPDATE for an INSERT with ON CONFLICT DO UPDATE; else one."""
    columns: tuple[str, ...]
    """The columns that are set."""


def check_write(
    tree: exp.Expr, tables: dict[str, str], grants: Sequence[WriteGrant], dialect: Dialect
) -> WriteUse:
    """What the root statement writes, all of it granted; the refusal shows the grant to ask for."""
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    if not isinstance(target, exp.Table) or not isinstance(target.this, exp.Identifier):
        raise _unsupported("a write without a plain table")
    table = tables[_spelled(target, dialect)]
    if isinstance(tree, exp.Delete):
        _require(table, Operation.DELETE, (), grants)
        return WriteUse(table, (Operation.DELETE,), ())
    if isinstance(tree, exp.Update):
        columns = _assigned(tree.expressions, dialect)
        _require(table, Operation.UPDATE, columns, grants)
        return WriteUse(table, (Operation.UPDATE,), columns)
    return _check_insert(tree, table, grants, dialect)


def _check_insert(tree: exp.Expr, table: str, grants: Sequence[WriteGrant], dialect: Dialect) -> WriteUse:
    alternative = str(tree.args.get("alternative") or "").upper()
    if alternative not in {"", "IGNORE"} or tree.args.get("overwrite"):
        raise _unsupported(f"INSERT OR {alternative}")
    if not isinstance(tree.this, exp.Schema):
        raise _unsupported("INSERT without a list of columns")
    columns = tuple(_identifier(column, dialect) for column in tree.this.expressions)
    _require(table, Operation.INSERT, columns, grants)
    conflict = tree.args.get("conflict")
    if conflict is None or not conflict.expressions:
        return WriteUse(table, (Operation.INSERT,), columns)
    changed = _assigned(conflict.expressions, dialect)
    _require(table, Operation.UPDATE, changed, grants)
    both = tuple(dict.fromkeys([*columns, *changed]))
    return WriteUse(table, (Operation.INSERT, Operation.UPDATE), both)


def _assigned(assignments: Sequence[exp.Expr], dialect: Dialect) -> tuple[str, ...]:
    columns: list[str] = []
    for assignment in assignments:
        if not isinstance(assignment, exp.EQ | exp.PropertyEQ):
            raise _unsupported("an assignment of this form")
        left = assignment.this
        targets = left.expressions if isinstance(left, exp.Tuple) else [left]
        columns += [_identifier(target, dialect) for target in targets]
    return tuple(dict.fromkeys(columns))


def _identifier(node: exp.Expr, dialect: Dialect) -> str:
    while isinstance(node, exp.Paren | exp.Bracket):
        node = node.this
    if isinstance(node, exp.Column):
        if node.args.get("table") is not None:
            raise _unsupported("an assignment to part of a column")
        node = node.this
    if not isinstance(node, exp.Identifier):
        raise _unsupported("an assignment of this form")
    quoted = node.args.get("quoted") and dialect == "postgres"
    return str(node.this) if quoted else ascii_lower(str(node.this))


def _spelled(table: exp.Expr, dialect: Dialect) -> str:
    parts = [part for part in (table.args.get("db"), table.this) if part is not None]
    return ".".join(_identifier(part, dialect) for part in parts)


def _require(
    table: str, operation: Operation, columns: tuple[str, ...], grants: Sequence[WriteGrant]
) -> None:
    granted: set[str] = set()
    for held in grants:
        if held.table == table and held.operation is operation:
            if operation is Operation.DELETE:
                return
            granted.update(held.columns)
    missing = [column for column in columns if column not in granted]
    if columns and not missing:
        return
    grant: dict[str, object] = {"table": table, "operation": operation.name}
    if columns:
        grant["columns"] = list(columns)
    listed = f" ({', '.join(missing or columns)})" if columns else ""
    wanted = json.dumps(grant)
    raise Refusal(
        Reason.WRITE_NOT_GRANTED,
        Layer.GUARD,
        f"{operation.name} of {table}{listed} is not granted to this sandbox",
        hint=f"it needs the write grant {wanted}",
        table=table,
        grant=wanted,
    )


def _unsupported(what: str) -> Refusal:
    return Refusal(Reason.STATEMENT_DENIED, Layer.GUARD, f"{what} is not allowed")
