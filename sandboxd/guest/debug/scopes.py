"""Which variables of a function belong to its comprehensions only.

From 3.12 on the interpreter keeps them among the function's own variables while a comprehension runs.
"""

import ast
from collections.abc import Iterator

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def comprehension_names(tree: ast.Module) -> dict[tuple[int, str], frozenset[str]]:
    """By first line and name of each function: the names that only comprehensions bind in it."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            hidden = _only_in_comprehensions(node)
            if hidden:
                decorators = getattr(node, "decorator_list", [])
                line = min([node.lineno, *(item.lineno for item in decorators)])
                found[line, getattr(node, "name", "<lambda>")] = hidden
    return found


def _only_in_comprehensions(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> frozenset[str]:
    inside: set[str] = set()
    outside = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    body = function.body if isinstance(function.body, list) else [function.body]
    for node, in_comprehension in _walk(body, in_comprehension=False):
        (inside if in_comprehension else outside).update(_bound_by(node))
    return frozenset(inside - outside)


def _walk(
    nodes: list[ast.stmt] | list[ast.expr], *, in_comprehension: bool
) -> Iterator[tuple[ast.AST, bool]]:
    waiting: list[tuple[ast.AST, bool]] = [(node, in_comprehension) for node in nodes]
    while waiting:
        node, inside = waiting.pop()
        yield node, inside
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            continue
        if isinstance(node, ast.comprehension):
            waiting += [(node.target, True), (node.iter, inside), *((test, inside) for test in node.ifs)]
            continue
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


def _bound_by(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return (node.id,)
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        return (node.name,)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.name,)
    if isinstance(node, ast.alias):
        return ((node.asname or node.name).partition(".")[0],)
    if isinstance(node, ast.Global | ast.Nonlocal):
        return tuple(node.names)
    return (node.rest,) if isinstance(node, ast.MatchMapping) and node.rest else ()


def is_hidden_name(name: str) -> bool:
    """Whether a variable is the language's own, such as `__module__`."""
    return (name[:2] == "__" and name != "__result__") or name[:1] == "<"
