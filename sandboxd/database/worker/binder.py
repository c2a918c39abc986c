"""Turns `:name` into the engine's own placeholders by token: strings, casts and comments stay as written."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sandboxd.channel.values import Value
from sandboxd.database.worker.lexer import Dialect, LexedText, Token, TokenKind
from sandboxd.database.worker.refusal import Layer, Reason, Refusal

MAX_PARAMETERS = 1000
_PARAMETER_KINDS = frozenset((TokenKind.NAMED, TokenKind.POSITIONAL, TokenKind.OPERATOR))
"""An operator may be PostgreSQL's `?`."""


class BoundText(NamedTuple):
    """Text with placeholders (`$1` for PostgreSQL, `:p1` for SQLite) and what belongs to each."""

    text: str
    names: list[str]
    """What the caller calls the parameter of each placeholder: a name, or a position from 1."""
    values: list[Value]


def bind(
    lexed: LexedText, dialect: Dialect, *, named: Mapping[str, Value], positional: Sequence[Value] = ()
) -> BoundText:
    """Every parameter of the text must be given and every given one used; names and positions do not mix."""
    if named and positional:
        raise _refusal("parameters are named or positional, not both")
    if len(named) + len(positional) > MAX_PARAMETERS:
        raise _refusal(f"more than {MAX_PARAMETERS} parameters")
    given: dict[str, Value] = dict(named)
    given.update((str(number), value) for number, value in enumerate(positional, 1))
    order: dict[str, int] = {}
    pieces, position, marks = [], 0, 0
    for token in lexed.tokens:
        if token.kind not in _PARAMETER_KINDS:
            continue
        marks += token.kind == TokenKind.POSITIONAL or (token.name == "?" and bool(positional))
        name = _parameter_name(token, given, marks, has_positions=bool(positional))
        if name is None:
            continue
        number = order.setdefault(name, len(order) + 1)
        placeholder = f"${number}" if dialect == "postgres" else f":p{number}"
        pieces += [lexed.text[position : token.start], placeholder]
        position = token.end
    unused = [name for name in given if name not in order]
    if unused:
        raise _refusal(f"parameter {_shown(unused[0])} is given but not used in the statement")
    text = "".join([*pieces, lexed.text[position:]])
    return BoundText(text, list(order), [given[name] for name in order])


def _parameter_name(
    token: Token, given: Mapping[str, Value], marks: int, *, has_positions: bool
) -> str | None:
    """The key in `given` that a token refers to; None when it is no parameter."""
    if token.kind == TokenKind.NAMED:
        if token.name not in given and token.depth > 0:
            return None  # a slice such as `tags[1:n]`
        if token.name not in given:
            hint = "pass it, for example {" + f'"{token.name}": ...' + "}"
            raise _refusal(f"parameter :{token.name} is not given", hint=hint, parameter=token.name)
        return token.name
    is_mark = token.name == "?" and (
        token.kind == TokenKind.POSITIONAL or (has_positions and token.kind == TokenKind.OPERATOR)
    )
    if token.kind != TokenKind.POSITIONAL and not is_mark:
        return None
    if not has_positions:
        written = "?" if is_mark else f"${token.name}"
        raise _refusal(f"{written} needs positional parameters", hint="or write parameters as :name")
    key = str(marks) if is_mark else token.name
    if key not in given:
        raise _refusal(f"parameter {key} is not given", parameter=key)
    return key


def fingerprint(lexed: LexedText) -> str:
    """Sixteen hex digits, shared by statements that differ only in literals, blanks and case of words."""
    parts = [
        "?" if token.kind in {TokenKind.STRING, TokenKind.NUMBER} else token.kind + token.name
        for token in lexed.tokens
    ]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _shown(name: str) -> str:
    return name if name.isdigit() else f":{name}"


def _refusal(problem: str, *, hint: str = "", parameter: str = "") -> Refusal:
    return Refusal(Reason.PARAMETER, Layer.BINDER, problem, hint=hint, parameter=parameter)
