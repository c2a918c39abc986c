"""Language rules that a text visibly breaks, found before it runs: guidance for agents, never the boundary.

Only plain names and import statements are looked at; escapes through attributes are not hunted.
"""

import ast
from collections.abc import Iterator

from sandboxd.channel.messages import Violation
from sandboxd.guest.language import Language, LanguageRuleError

_MOST_VIOLATIONS = 50


def may_break_rules(source: str, language: Language) -> bool:
    """False when no word of the text can be a violation; spares most texts the look at every node."""
    suspicious = ("import", *language.blocked_builtins)
    return language.restricted and any(word in source for word in suspicious)


def find_violations(tree: ast.Module, language: Language, *, known_names: frozenset[str]) -> list[Violation]:
    """All violations in the order of the text, at most 50.

    A name that the text binds itself, or that `known_names` holds from earlier executions, is the user's
    own and not the builtin. An import whose failure the text handles is left to the running program.
    """
    if not language.restricted:
        return []
    nodes = list(ast.walk(tree))  # not a visitor: its recursion would end at deep nesting
    own_names: frozenset[str] | None = None
    tolerated = _tolerated_imports(nodes)
    found: list[tuple[ast.expr | ast.stmt, LanguageRuleError]] = []
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id not in language.blocked_builtins:
                continue
            own_names = own_names or known_names | frozenset(_bound_names(nodes))
            if node.id not in own_names:
                found.append((node, language.builtin_refusal(node.id)))
        elif isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in tolerated:
            found.extend((node, refusal) for refusal in _refusals(node, language))
    found.sort(key=lambda pair: (pair[0].lineno, pair[0].col_offset))
    return [_violation(node, refusal) for node, refusal in found[:_MOST_VIOLATIONS]]


def _violation(node: ast.expr | ast.stmt, refusal: LanguageRuleError) -> Violation:
    return Violation(
        rule=refusal.rule,
        message=refusal.message,
        line=node.lineno,
        column=node.col_offset + 1,
        alternative=refusal.alternative,
    )


def _refusals(node: ast.Import | ast.ImportFrom, language: Language) -> Iterator[LanguageRuleError]:
    if isinstance(node, ast.Import):
        refusals = [language.module_refusal(alias.name) for alias in node.names]
    elif node.level or not node.module:
        return  # relative: there is no package to be relative to, which Python itself says
    else:
        refusals = [language.module_refusal(node.module, tuple(alias.name for alias in node.names))]
    yield from (refusal for refusal in refusals if refusal is not None)


def _bound_names(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name):
                yield name
            case ast.alias(name=name, asname=asname):
                yield asname or name.partition(".")[0]
            case ast.ExceptHandler(name=str(name)):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name


def _tolerated_imports(nodes: list[ast.AST]) -> set[int]:
    """Import statements directly in the body of a `try` with a handler for their failure."""
    return {
        id(statement)
        for node in nodes
        if isinstance(node, ast.Try) and any(_handles_import_errors(each) for each in node.handlers)
        for statement in node.body
        if isinstance(statement, ast.Import | ast.ImportFrom)
    }


def _handles_import_errors(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        isinstance(kind, ast.Name) and kind.id in ("ImportError", "ModuleNotFoundError", "Exception")
        for kind in kinds
    )
