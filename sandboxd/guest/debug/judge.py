"""Judges expressions over recorded values: names, literals, comparisons, arithmetic, `len`, indexing.

Nothing is compiled or run: the expression's tree is walked, and each operation is bounded.
"""

import ast
import operator
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.show import Instance, Opaque, Partial


class Undecided(Exception):
    """The recorded values do not tell."""


class BadExpression(Exception):
    """The expression uses what is not offered."""


_MAX_INT_BITS = 4096
_MAX_TEXT = 100_000
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda part, whole: part in whole,
    ast.NotIn: lambda part, whole: part not in whole,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def parse_expression(text: str) -> ast.expr:
    """The expression's tree; `BadExpression` when it has a part that is not offered."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadExpression("not an expression") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not (isinstance(node.func, ast.Name) and node.func.id == "len" and len(node.args) == 1):
                raise BadExpression("only len(...) may be called")
        elif not isinstance(node, _OFFERED):
            raise BadExpression(f"{type(node).__name__} is not offered")
    return tree


_OFFERED = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, *_UNARY, ast.BinOp, *_BINARY, ast.Compare, *_COMPARE, ast.Name,
    ast.Load, ast.Constant, ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Attribute,
)  # fmt: skip


def names_in(tree: ast.expr) -> frozenset[str]:
    """Variables that the expression reads."""
    return frozenset(
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in ("len",)
    )


def judge(tree: ast.expr, look_up: Callable[[str], Any]) -> Any:
    """The value of the expression; `Undecided` when the recorded values do not tell."""
    try:
        return _judge(tree, look_up)
    except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError, OverflowError) as error:
        raise Undecided(type(error).__name__) from error


def _judge(node: ast.expr, look_up: Callable[[str], Any]) -> Any:  # noqa: C901  one case a kind of node
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return look_up(name)
        case ast.BoolOp(op=connective, values=parts):
            return _judge_connective(isinstance(connective, ast.And), parts, look_up)
        case ast.UnaryOp(op=sign, operand=operand):
            return _UNARY[type(sign)](_plain(_judge(operand, look_up)))
        case ast.BinOp(left=left, op=sign, right=right):
            return _bounded(type(sign), _plain(_judge(left, look_up)), _plain(_judge(right, look_up)))
        case ast.Compare():
            return _judge_comparison(node, look_up)
        case ast.List(elts=parts):
            return [_judge(part, look_up) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_judge(part, look_up) for part in parts)
        case ast.Call(args=arguments):
            return _length(_judge(arguments[0], look_up))
        case ast.Subscript(value=whole, slice=place):
            return _part(_judge(whole, look_up), place, look_up)
        case ast.Attribute(value=whole, attr=name):
            found = _judge(whole, look_up)
            if isinstance(found, Instance) and name in found.attributes:
                return found.attributes[name]
            raise Undecided(name)
    raise BadExpression(type(node).__name__)


def _judge_connective(every: bool, parts: list[ast.expr], look_up: Callable[[str], Any]) -> Any:  # noqa: FBT001
    value: Any = every
    for part in parts:
        value = _judge(part, look_up)
        if bool(_plain(value)) is not every:
            return value
    return value


def _judge_comparison(node: ast.Compare, look_up: Callable[[str], Any]) -> bool:
    left = _judge(node.left, look_up)
    for sign, right_node in zip(node.ops, node.comparators, strict=True):
        right = _judge(right_node, look_up)
        if not isinstance(sign, ast.Is | ast.IsNot):
            left, right = _plain(left), _plain(right)
        if not _COMPARE[type(sign)](left, right):
            return False
        left = right
    return True


def _bounded(sign: type[ast.operator], left: Any, right: Any) -> Any:
    for value in (left, right):
        if isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
            raise Undecided("the number is too large")
    if sign is ast.Mult and (
        isinstance(left, str | bytes | list | tuple) or isinstance(right, str | bytes | list | tuple)
    ):
        raise Undecided("repetition is not offered")
    if sign is ast.Mod and isinstance(left, str | bytes):
        raise Undecided("formatting is not offered")
    return _BINARY[sign](left, right)


def _plain(value: Any) -> Any:
    if isinstance(value, Opaque | Partial | Instance):
        raise Undecided("not recorded in full")
    return value


def _length(value: Any) -> int:
    if isinstance(value, Partial):
        return value.length
    return len(_plain(value))


def _part(whole: Any, place: ast.expr, look_up: Callable[[str], Any]) -> Any:
    if isinstance(place, ast.Slice):
        bounds = [
            None if part is None else _judge(part, look_up) for part in (place.lower, place.upper, place.step)
        ]
        return _plain(whole)[slice(*bounds)]
    key = _judge(place, look_up)
    if isinstance(whole, Partial):
        known = whole.parts
        if isinstance(known, dict) and key in known:
            return known[key]
        if isinstance(known, list | tuple | str) and isinstance(key, int) and 0 <= key < len(known):
            return known[key]
        raise Undecided("behind what is recorded")
    return _plain(whole)[key]
