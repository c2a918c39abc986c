"""Judges the final text of a statement: an allow-list over its tree and, independently, over its tokens.

Nothing is allowed because it looks harmless: a root, a kind of node, a table or a function that is not
listed is refused by name. The engine's own layers hold where the two parsers differ.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from sqlglot import exp
from sqlglot.errors import SqlglotError

from sandboxd.database.grants import WriteGrant
from sandboxd.database.worker.allowed import DENIED_FUNCTION_NODES, NODES, PLAIN_NODES, FunctionPolicy
from sandboxd.database.worker.lexer import Dialect, LexedText, ascii_lower
from sandboxd.database.worker.parser import parse
from sandboxd.database.worker.refusal import Layer, Reason, Refusal
from sandboxd.database.worker.token_guard import Names, check_tokens, no_such_type
from sandboxd.database.worker.write_guard import WriteUse, check_write

_EXPLAIN = re.compile(
    r"\s*EXPLAIN(?:\s+QUERY\s+PLAN|\s*\(\s*(?:(?:FORMAT\s+(?:TEXT|JSON|XML|YAML)|VERBOSE|COSTS|SETTINGS|SUMMARY)"
    r"(?:\s+(?:ON|OFF|TRUE|FALSE))?\s*,?\s*)+\))?\s+(?=SELECT|WITH|VALUES|TABLE|INSERT|UPDATE|DELETE|\()",
    re.IGNORECASE,
)


_PARSER_FAULTS = (TypeError, ValueError, AttributeError, LookupError, AssertionError)
"""What the parser raises on some texts that are no SQL, in place of its own errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """What one sandbox may name in one database: the input of the guard beside the text."""

    dialect: Dialect
    tables: dict[str, str]
    """Every spelling of a readable table (`users`, `public.users`) and its name as callers know it."""
    functions: FunctionPolicy
    columns: frozenset[str] = frozenset()
    """Columns of the readable tables: after a dot they are columns even where a function has that name."""
    hidden_types: frozenset[str] = frozenset()
    """PostgreSQL's row types of tables that are not readable."""
    writes: tuple[WriteGrant, ...] = ()
    readable: frozenset[str] = frozenset()
    """The readable tables, as SQLite's authorizer compares names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an allowed statement does."""

    kind: str
    """`select`, `explain`, `insert`, `update` or `delete`."""
    tables: tuple[str, ...]
    functions: tuple[str, ...]
    write: WriteUse | None
    tree: exp.Expr
    nodes: Sequence[exp.Expr]
    """Everything in the tree, for those who look for something in it."""


def judge(text: str, lexed: LexedText, visible: Visible) -> Verdict:
    """The verdict on `text`, which must be exactly what the engine will get; raises `Refusal`.

    `lexed` is the text's own tokens, or those of the text before its parameters became placeholders.
    """
    try:
        return _judge(text, lexed, visible)
    except _PARSER_FAULTS:
        # Parts of the tree that are not what they are for every statement that is SQL: `main..users`.
        raise Refusal(Reason.SYNTAX, Layer.GUARD, "the statement is not understood") from None


def _judge(text: str, lexed: LexedText, visible: Visible) -> Verdict:
    explained = _EXPLAIN.match(text)
    tree = _parse(text[explained.end() :] if explained else text, visible.dialect)
    is_write = isinstance(tree, exp.Insert | exp.Update | exp.Delete)
    if not is_write and not isinstance(tree, exp.Query | exp.Values):
        _refuse_root(tree)
    if is_write and explained:
        raise _denied("EXPLAIN of a statement that writes")
    nodes: list[exp.Expr] = []
    tables = _check_nodes(tree, visible, nodes)
    names = Names(visible.functions, visible.columns, visible.hidden_types)
    functions = check_tokens(lexed, nodes, names, visible.dialect)
    write = check_write(tree, visible.tables, visible.writes, visible.dialect) if is_write else None
    kind = "explain" if explained else type(tree).__name__.lower() if is_write else "select"
    return Verdict(
        kind=kind, tables=tuple(tables), functions=tuple(functions), write=write, tree=tree, nodes=nodes
    )


def _parse(text: str, dialect: Dialect) -> exp.Expr:
    try:
        trees = parse(text, dialect)
    except RecursionError:
        raise Refusal(Reason.TOO_COMPLEX, Layer.GUARD, "the statement is nested too deep") from None
    except SqlglotError as error:
        raise _syntax_refusal(error) from None
    except _PARSER_FAULTS:
        raise Refusal(Reason.SYNTAX, Layer.GUARD, "syntax error") from None
    if len(trees) != 1 or trees[0] is None:
        raise Refusal(Reason.MULTIPLE_STATEMENTS, Layer.GUARD, "the text holds several statements")
    return trees[0]


def _syntax_refusal(error: SqlglotError) -> Refusal:
    details: Sequence[dict[str, object]] = getattr(error, "errors", None) or [{}]
    first = details[0]
    line, column = first.get("line"), first.get("col")
    near = str(first.get("highlight") or "")[:60]
    text = "syntax error" + (f" near {near!r}" if near else "")
    if line is None:
        return Refusal(Reason.SYNTAX, Layer.GUARD, text)
    return Refusal(
        Reason.SYNTAX,
        Layer.GUARD,
        f"line {line}, column {column}: {text}",
        line=str(line),
        column=str(column),
    )


def _refuse_root(tree: exp.Expr) -> NoReturn:
    name = str(tree.this).upper() if isinstance(tree, exp.Command) else type(tree).__name__.upper()
    raise _denied(
        f"{name} statements", hint="SELECT, VALUES, EXPLAIN (without ANALYZE) and granted writes run"
    )


def _denied(what: str, *, hint: str = "") -> Refusal:
    return Refusal(Reason.STATEMENT_DENIED, Layer.GUARD, f"{what} are not allowed", hint=hint)


def _check_nodes(tree: exp.Expr, visible: Visible, nodes: list[exp.Expr]) -> list[str]:
    """Refuses every node that is not listed; the readable tables that the statement names. Fills `nodes`."""
    tables: dict[str, None] = {}
    for node in tree.walk():
        nodes.append(node)
        kind = type(node)
        if kind in PLAIN_NODES:
            continue
        if kind is exp.Table:
            name = _check_table(node, visible)
            if name is not None:
                tables[name] = None
        elif kind not in NODES and (not issubclass(kind, exp.Func) or kind in DENIED_FUNCTION_NODES):
            _refuse_node(node)
        elif kind is exp.DataType and visible.hidden_types:
            _check_type(node, visible)
        elif kind is exp.In and node.args.get("field") is not None:
            _check_in_field(node)
        elif node is not tree and isinstance(node, exp.Insert | exp.Update | exp.Delete):
            raise _denied("statements that write inside another one")
    return list(tables)


def _refuse_node(node: exp.Expr) -> NoReturn:
    if isinstance(node, exp.Into):
        raise _denied("SELECT INTO statements")
    if isinstance(node, exp.Lock):
        raise _denied("locking clauses (FOR UPDATE, FOR SHARE)")
    if isinstance(node, exp.Func):
        name = node.sql_name().lower()
        text = f"function {name} is not allowed"
        raise Refusal(Reason.FUNCTION_DENIED, Layer.GUARD, text, function=name)
    raise _denied(f"{type(node).__name__} constructs")


def _check_type(node: exp.Expr, visible: Visible) -> None:
    """`NULL::api_keys` would tell the columns of a hidden table."""
    if node.this is exp.DType.USERDEFINED:
        name = ascii_lower(str(node.args.get("kind") or "")).rpartition(".")[2].strip('"')
        if name in visible.hidden_types:
            raise no_such_type(name)


def _check_in_field(node: exp.Expr) -> None:
    """SQLite reads `x IN api_keys` as a subquery over that table."""
    field = node.args["field"]
    if not isinstance(field, exp.Placeholder | exp.Parameter | exp.Bracket | exp.Func | exp.Array):
        raise _denied("IN without brackets", hint="write IN (SELECT ... FROM ...) or IN (value, ...)")


def fold(identifier: exp.Expr, dialect: Dialect) -> str:
    """An identifier as the engine compares it."""
    name = str(identifier.this)
    if dialect == "sqlite" or not identifier.args.get("quoted"):
        return ascii_lower(name)
    return name


def _check_table(node: exp.Expr, visible: Visible) -> str | None:
    """The readable table that `node` names; None for a CTE or a function in FROM."""
    if node.args.get("indexed"):
        node.args["indexed"].replace(exp.Boolean(this=False))
    if not isinstance(node.this, exp.Identifier):
        return None  # a function, which the tokens are checked for, or ROWS FROM
    name = fold(node.this, visible.dialect)
    if node.args.get("catalog") is not None:
        raise _undefined_table(node.sql(dialect=visible.dialect)[:200], visible)
    schema = node.args.get("db")
    if schema is None and _is_cte(node, name, visible.dialect):
        return None
    spelled = name if schema is None else f"{fold(schema, visible.dialect)}.{name}"
    known = visible.tables.get(spelled)
    if known is None:
        raise _undefined_table(spelled, visible)
    return known


def _undefined_table(spelled: str, visible: Visible) -> Refusal:
    near = get_close_matches(spelled, visible.tables, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(dict.fromkeys(visible.tables[name] for name in near))}?" if near else ""
    return Refusal(Reason.UNDEFINED, Layer.GUARD, f"there is no table {spelled!r}", hint=hint, table=spelled)


def _is_cte(node: exp.Expr, name: str, dialect: Dialect) -> bool:
    """Whether a WITH that reaches this place defines `name`.

    `WITH keys AS (SELECT * FROM keys)` reads the real table inside its own definition, so a CTE counts there
    only when the WITH is recursive (always in SQLite).
    """
    child, ancestor = node, node.parent
    while ancestor is not None:
        clause = ancestor if isinstance(ancestor, exp.With) else ancestor.args.get("with_")
        if clause is not None and clause is not child:
            recursive = bool(clause.args.get("recursive")) or dialect == "sqlite"
            for cte in clause.expressions:
                if cte is child and not recursive:
                    break
                if fold(cte.args["alias"].this, dialect) == name:
                    return True
        child, ancestor = ancestor, ancestor.parent
    return False
