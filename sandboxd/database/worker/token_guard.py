"""The part of the guard that reads tokens: names before an opening bracket and names after a dot.

A tree hides names: `date_trunc` becomes a node of its own, `(x).pg_sleep` looks like a column.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlglot import exp

from sandboxd.database.worker.allowed import (
    DENIED_TYPES,
    DENIED_WORDS,
    WORDS_BEFORE_BRACKET,
    FunctionPolicy,
)
from sandboxd.database.worker.lexer import Dialect, LexedText, Token, TokenKind, ascii_lower
from sandboxd.database.worker.refusal import Layer, Reason, Refusal

_NAMES = (TokenKind.WORD, TokenKind.QUOTED)


class Names(NamedTuple):
    """What names mean to one sandbox."""

    functions: FunctionPolicy
    columns: frozenset[str]
    """Columns of the readable tables."""
    hidden_types: frozenset[str]
    """Types of tables that are not shown."""


def check_tokens(lexed: LexedText, nodes: Sequence[exp.Expr], known: Names, dialect: Dialect) -> list[str]:
    """The functions that a statement calls, each allowed; refuses every other name that could be called."""
    tokens, functions = lexed.tokens, known.functions
    called: dict[str, None] = {}
    unexplained: list[str] = []
    for index, token in enumerate(tokens):
        if token.kind not in _NAMES or _is_sampling(tokens, index):
            continue
        name = _folded(token, dialect)
        if dialect == "postgres":
            _check_postgres_word(tokens, index, name, known)
        if _is(tokens, index + 1, "("):
            if name in functions.denied or _foreign_schema(tokens, index, dialect, functions):
                raise _function_denied(name)
            if name in functions.allowed:
                called[name] = None
            elif token.kind == TokenKind.QUOTED or name not in WORDS_BEFORE_BRACKET:
                unexplained.append(name)
        elif _is(tokens, index - 1, ".") and name in functions.denied and name not in known.columns:
            # PostgreSQL calls pg_sleep for `(0.2).pg_sleep`.
            raise _function_denied(name)
    _check_explained(unexplained, nodes, dialect)
    return list(called)


def _check_postgres_word(tokens: list[Token], index: int, name: str, known: Names) -> None:
    after_cast = index > 0 and tokens[index - 1].kind == TokenKind.CAST
    if name in DENIED_TYPES and (after_cast or name not in known.columns):
        text = f"type {name} is not allowed: it looks names up in the catalogue"
        raise Refusal(Reason.OBJECT_DENIED, Layer.GUARD, text, type=name)
    if name in known.hidden_types and (after_cast or _is_literal_prefix(tokens, index)):
        raise no_such_type(name)
    if (
        name in DENIED_WORDS
        and tokens[index].kind == TokenKind.WORD
        and not _is(tokens, index - 1, ".")
        and not (index and tokens[index - 1].name == "as")
    ):
        raise _function_denied(name)


def _is_literal_prefix(tokens: list[Token], index: int) -> bool:
    """Whether a name stands before a string, which makes it a type: `api_keys '(1, x)'`."""
    return index + 1 < len(tokens) and tokens[index + 1].kind == TokenKind.STRING


def no_such_type(name: str) -> Refusal:
    """Every table is a type too: that of a hidden one is refused in the words for an unknown one."""
    return Refusal(Reason.UNDEFINED, Layer.GUARD, f'type "{name}" does not exist')


def _foreign_schema(tokens: list[Token], index: int, dialect: Dialect, functions: FunctionPolicy) -> bool:
    """Whether a call names a schema other than PostgreSQL's own, where any function may be."""
    if dialect != "postgres" or not _is(tokens, index - 1, ".") or index < 2:
        return False
    schema = _folded(tokens[index - 2], dialect)
    name = _folded(tokens[index], dialect)
    return (
        schema != "pg_catalog" and f"{schema}.{name}" not in functions.allowed and name in functions.allowed
    )


def _check_explained(names: list[str], nodes: Sequence[exp.Expr], dialect: Dialect) -> None:
    """What stands before a bracket and is no known function must be a list of columns, one for one."""
    if not names:
        return
    lists = [
        _alias_name(node, dialect)
        for node in nodes
        if isinstance(node, exp.Schema) or (isinstance(node, exp.TableAlias) and node.args.get("columns"))
    ]
    types = [
        ascii_lower(str(node.this)) for node in nodes if isinstance(node, exp.DataType) and node.expressions
    ]
    for name in names:
        if name in lists:
            lists.remove(name)
        elif f"dtype.{name}" in types:
            types.remove(f"dtype.{name}")
        else:
            raise _function_denied(name)


def _alias_name(node: exp.Expr, dialect: Dialect) -> str:
    name = node.this
    if isinstance(name, exp.Table):
        alias = name.args.get("alias")
        name = name.this if alias is None else alias.this
    if not isinstance(name, exp.Identifier):
        return ""
    text = str(name.this)
    return text if name.args.get("quoted") and dialect == "postgres" else ascii_lower(text)


def _is_sampling(tokens: list[Token], index: int) -> bool:
    """`TABLESAMPLE SYSTEM (10)` names a method, which PostgreSQL keeps among its functions."""
    is_method = tokens[index].kind == TokenKind.WORD and tokens[index].name in ("system", "bernoulli")
    return is_method and index > 0 and tokens[index - 1].name == "tablesample"


def _is(tokens: list[Token], index: int, sign: str) -> bool:
    if not 0 <= index < len(tokens):
        return False
    token = tokens[index]
    return token.kind == TokenKind.PUNCTUATION and token.name == sign


def _folded(token: Token, dialect: Dialect) -> str:
    return ascii_lower(token.name) if dialect == "sqlite" else token.name


def _function_denied(name: str) -> Refusal:
    text = f"function {name} is not allowed"
    return Refusal(Reason.FUNCTION_DENIED, Layer.GUARD, text, function=name)
