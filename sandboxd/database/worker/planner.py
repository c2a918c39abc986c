"""Takes a statement through the layers before the engine: text, binder, bridge, guard. Plans are cached."""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlglot import exp

from sandboxd.channel.values import Value
from sandboxd.database.grants import WriteGrant
from sandboxd.database.protocol import RunStatement
from sandboxd.database.schema import Table
from sandboxd.database.worker.allowed import FunctionPolicy
from sandboxd.database.worker.binder import bind, fingerprint
from sandboxd.database.worker.bridge import bridge, check_native
from sandboxd.database.worker.guard import Verdict, Visible, judge
from sandboxd.database.worker.lexer import Dialect, ascii_lower, lex
from sandboxd.database.worker.refusal import Layer, Reason, Refusal
from sandboxd.database.worker.write_guard import WriteUse

_CACHED_PLANS = 512
_TYPED_BY_COLUMNS = (exp.Placeholder, exp.Add, exp.Sub)


class Catalog(NamedTuple):
    """What a database shows to every sandbox. A new object means that something changed."""

    dialect: Dialect
    default_schema: str
    tables: Mapping[str, Table]
    functions: FunctionPolicy
    row_types: frozenset[str] = frozenset()
    """PostgreSQL's type names of tables, shown or not, and of arrays of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A statement that passed, apart from the values of its parameters."""

    text: str
    """What the engine gets."""
    names: tuple[str, ...]
    """The caller's name of each placeholder."""
    kind: str
    tables: tuple[str, ...]
    functions: tuple[str, ...]
    write: WriteUse | None
    fingerprint: str
    bridged: tuple[str, ...]
    parameter_types: Mapping[str, str]
    """SQLite: the declared type of the column that a placeholder is compared with."""
    readable: frozenset[str]


class Planner:
    """Makes and keeps plans of one database."""

    def __init__(self, *, guarded: bool) -> None:
        self._guarded = guarded
        self._plans: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
        self._visible: dict[tuple[object, ...], Visible] = {}
        self._catalog: Catalog | None = None

    def plan(self, request: RunStatement, catalog: Catalog) -> Plan:
        """The plan of a statement; raises `Refusal`."""
        if catalog is not self._catalog:
            self._plans.clear()
            self._visible.clear()
            self._catalog = catalog
        policy = (tuple(request.tables), tuple(request.writes))
        names = tuple(name for name, _ in request.named)
        key = (request.sql, names, len(request.positional), policy)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make(request, catalog, self._visible_to(policy, catalog))
            self._plans[key] = plan
            if len(self._plans) > _CACHED_PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan

    def _visible_to(
        self, policy: tuple[tuple[str, ...], tuple[WriteGrant, ...]], catalog: Catalog
    ) -> Visible:
        visible = self._visible.get(policy)
        if visible is None:
            visible = visible_to(catalog, *policy)
            self._visible[policy] = visible
        return visible

    def _make(self, request: RunStatement, catalog: Catalog, visible: Visible) -> Plan:
        dialect = catalog.dialect
        lexed = lex(request.sql, dialect)
        mark = fingerprint(lexed)
        try:
            named: dict[str, Value] = dict(request.named)
            bound = bind(lexed, dialect, named=named, positional=request.positional)
            text = bound.text
            constructs: list[str] = []
            if dialect == "sqlite" and (bridged := bridge(bound.text, lexed)) is not None:
                text, constructs = bridged
                lexed = lex(text, dialect)
            if self._guarded:
                verdict = judge(text, lexed, visible)
            else:
                tree = exp.Null()
                verdict = Verdict(kind="unjudged", tables=(), functions=(), write=None, tree=tree, nodes=())
            _check_explained_views(catalog, verdict)
            types = _column_types(catalog, verdict) if dialect == "sqlite" else {}
            check_native(verdict.nodes, types)
        except Refusal as refusal:
            refusal.detail.setdefault("fingerprint", mark)
            raise
        return Plan(
            text=text,
            names=tuple(bound.names),
            kind=verdict.kind,
            tables=verdict.tables,
            functions=verdict.functions,
            write=verdict.write,
            fingerprint=mark,
            bridged=tuple(constructs),
            parameter_types=_parameter_types(verdict, types) if types else {},
            readable=visible.readable,
        )


def values_of(plan: Plan, request: RunStatement) -> list[tuple[str, Value]]:
    """The value of each placeholder, with the name its errors use."""
    named = dict(request.named)
    return [
        (name, named[name] if name in named else request.positional[int(name) - 1]) for name in plan.names
    ]


def visible_to(catalog: Catalog, tables: Sequence[str], writes: Sequence[WriteGrant]) -> Visible:
    """What a sandbox with these grants may name; empty `tables` means all that is shown."""
    fold = ascii_lower if catalog.dialect == "sqlite" else str
    wanted = {fold(name) for name in tables}
    spelled: dict[str, str] = {}
    columns: set[str] = set()
    for name, table in catalog.tables.items():
        if wanted and fold(name) not in wanted:
            continue
        folded = fold(name)
        spelled[folded] = name
        if "." not in name:
            spelled[f"{catalog.default_schema}.{folded}"] = name
        columns.update(fold(column.name) for column in table.columns)
    granted = tuple(
        WriteGrant(
            table=spelled.get(fold(grant.table), grant.table),
            operation=grant.operation,
            columns=tuple(fold(column) for column in grant.columns),
        )
        for grant in writes
    )
    return Visible(
        dialect=catalog.dialect,
        tables=spelled,
        functions=catalog.functions,
        columns=frozenset(columns),
        hidden_types=catalog.row_types.difference(spelled, (f"_{name}" for name in spelled)),
        writes=granted,
        readable=frozenset(ascii_lower(name) for name in spelled.values()),
    )


def _check_explained_views(catalog: Catalog, verdict: Verdict) -> None:
    """A plan names what is behind a view, which may be hidden."""
    if verdict.kind != "explain":
        return
    views = [name for name in verdict.tables if catalog.tables[name].kind == "view"]
    if views:
        problem = f"EXPLAIN of a statement that reads a view ({views[0]}) is not allowed"
        raise Refusal(Reason.STATEMENT_DENIED, Layer.GUARD, problem)


def _column_types(catalog: Catalog, verdict: Verdict) -> dict[str, str]:
    """Declared types by column name, over the tables of a statement; a name with two types has none.

    Empty when nothing in the statement asks for one.
    """
    if not any(isinstance(node, _TYPED_BY_COLUMNS) for node in verdict.nodes):
        return {}
    types: dict[str, str] = {}
    for table in verdict.tables:
        for column in catalog.tables[table].columns:
            name = ascii_lower(column.name)
            types[name] = column.db_type if types.get(name, column.db_type) == column.db_type else ""
    return types


def _parameter_types(verdict: Verdict, types: Mapping[str, str]) -> dict[str, str]:
    """What each placeholder is compared with or assigned to."""
    found: dict[str, str] = {}
    for placeholder in verdict.nodes:
        if not isinstance(placeholder, exp.Placeholder):
            continue
        parent = placeholder.parent
        while isinstance(parent, exp.Paren | exp.Tuple):
            parent = parent.parent
        if isinstance(parent, exp.EQ | exp.NEQ | exp.GT | exp.GTE | exp.LT | exp.LTE | exp.Between | exp.In):
            sides = [parent.this, parent.args.get("expression")]
            column = next((side for side in sides if isinstance(side, exp.Column)), None)
            if column is not None:
                found[str(placeholder.this)] = types.get(ascii_lower(column.name), "")
    found.update(_inserted_types(verdict.tree, types))
    return found


def _inserted_types(tree: exp.Expr, types: Mapping[str, str]) -> dict[str, str]:
    """What each placeholder in the rows of an INSERT is stored as."""
    if not isinstance(tree, exp.Insert) or not isinstance(tree.expression, exp.Values):
        return {}
    columns = [types.get(ascii_lower(str(column.this)), "") for column in tree.this.expressions]
    return {
        str(cell.this): declared
        for row in tree.expression.expressions
        for cell, declared in zip(row.expressions, columns, strict=False)
        if isinstance(cell, exp.Placeholder)
    }


def microseconds_since(start: float) -> int:
    """Elapsed time on the performance counter."""
    return int((time.perf_counter() - start) * 1_000_000)
