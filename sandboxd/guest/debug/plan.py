"""What can be known about user code before it runs: its statements and what each of them may do."""

import ast
import dis
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandboxd.guest.debug.bytecode import read_effects
from sandboxd.guest.debug.scopes import comprehension_names, is_hidden_name

VALUE_HOOK = "<expression value>"
"""Name under which expression statements find the tracer. No program can spell it."""
_SKIPPED_CODE = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
"""Comprehensions are part of their statement: from 3.12 on most have no frame of their own."""
_REFLECTIVE = frozenset({"exec", "eval", "globals", "locals", "vars", "setattr", "delattr", "__import__"})
_Statement = ast.stmt | ast.excepthandler | ast.match_case


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementPlan:
    """What running one statement may change in its own frame."""

    names: frozenset[str] = frozenset()
    """Variables it reads: what it changes in place it reaches through them."""
    changes: bool = False
    """Whether it may change an object in place."""
    calls: bool = False
    """Whether it calls something, which may reach objects by other ways."""


_UNKNOWN = StatementPlan(changes=True, calls=True)


class SourcePlan:
    """The statements of one source text."""

    def __init__(self, source: str, tree: ast.Module, label: str) -> None:
        self.label = label
        self.lines = source.splitlines()
        nodes = list(_statements(tree))
        self._statements = _map_statements(nodes, len(self.lines))
        self.one_line_loops = frozenset(_one_line_loops(nodes))
        # Where a word is missing there is none of it, and most of the tree need not be walked.
        functions = ("def" in source or "lambda" in source) and "for" in source
        self._comprehension_names = comprehension_names(tree) if functions else {}

    def comprehension_names(self, code: types.CodeType) -> frozenset[str]:
        """Variables of `code` that only its comprehensions bind."""
        return self._comprehension_names.get((code.co_firstlineno, code.co_name), frozenset())

    def statement(self, line: int) -> int:
        """First line of the innermost statement that `line` belongs to."""
        return self._statements[line] if 0 < line < len(self._statements) else line

    def text(self, line: int) -> str:
        """The line's text, "" when there is none."""
        return self.lines[line - 1] if 0 < line <= len(self.lines) else ""


def _statements(tree: ast.Module) -> Iterator[_Statement]:
    """Statements, handlers and cases; outer ones before those in them, in the order of the text."""
    waiting: list[Any] = [*reversed(tree.body)]
    while waiting:
        node = waiting.pop()
        yield node
        for part in ("finalbody", "orelse", "cases", "handlers", "body"):
            waiting += reversed(getattr(node, part, ()))


def _map_statements(nodes: list[_Statement], count: int) -> list[int]:
    starts = list(range(count + 2))
    for node in nodes:
        first, last = _span(node)
        for line in range(first, min(last, count) + 1):
            starts[line] = first
    return starts


def _span(node: _Statement) -> tuple[int, int]:
    """First and last line, decorators included."""
    if isinstance(node, ast.match_case):
        first = node.pattern.lineno
        return first, node.body[-1].end_lineno or first
    first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])
    return first, node.end_lineno or first


def _one_line_loops(nodes: list[_Statement]) -> Iterator[int]:
    for node in nodes:
        if isinstance(node, ast.For | ast.AsyncFor | ast.While) and node.body[0].lineno == node.lineno:
            yield node.lineno


@dataclass(slots=True, kw_only=True, eq=False)
class CodePlan:
    """What the tracer knows of one code object."""

    number: int
    """Counted from 1 within the run."""
    code: types.CodeType
    source: SourcePlan
    is_module: bool
    statement_of: Sequence[int]
    """Statement of each raw line; the line itself when each line is a step."""
    stored_globals: tuple[str, ...] = ()
    used_globals: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    """Variables of inlined comprehensions; they are no variables of the function."""
    reflective: bool = False
    """Whether it can bind globals that it does not name."""
    statements: dict[int, StatementPlan] = field(default_factory=dict)
    stores: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """By statement, the variables of its own that it may bind."""
    quiet_stores: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """The same without statements that may change an object in place."""
    bytecode: bytes = b""

    def statement(self, line: int) -> StatementPlan:
        """What the statement that starts at `line` may do."""
        return self.statements.get(line, _UNKNOWN)

    def statement_at(self, line: int) -> int:
        """The step that a raw line belongs to."""
        return self.statement_of[line]

    @property
    def name(self) -> str:
        """The function's name; "<module>" for the top level."""
        return self.code.co_name


def is_skipped(code: types.CodeType) -> bool:
    """Whether frames of `code` are no steps of their own."""
    return code.co_name in _SKIPPED_CODE


def make_code_plan(code: types.CodeType, source: SourcePlan, *, by_line: bool) -> CodePlan:
    """Reads the bytecode of `code` once."""
    plan = CodePlan(
        number=0,
        code=code,
        source=source,
        is_module=code.co_name == "<module>",
        statement_of=_statement_list(code, source, by_line=by_line),
        hidden=source.comprehension_names(code),
        bytecode=code.co_code,
    )
    _read_effects(plan)
    return plan


def _statement_list(code: types.CodeType, source: SourcePlan, *, by_line: bool) -> Sequence[int]:
    last = max((line or 0 for _start, _end, line in code.co_lines()), default=0)
    return range(last + 2) if by_line else [source.statement(line) for line in range(last + 2)]


def _read_effects(plan: CodePlan) -> None:
    effects = read_effects(plan.code, plan.statement_of, is_module=plan.is_module)
    anywhere = [*_bound_by_skipped_code(plan.code), *effects.bound_anywhere]
    plan.stored_globals = tuple(dict.fromkeys(effects.stored_globals))
    plan.used_globals = frozenset(effects.used_globals)
    plan.reflective = bool(effects.used_globals & _REFLECTIVE) or effects.imports_star
    plan.statements = {
        key: StatementPlan(
            names=frozenset(read), changes=key in effects.changing, calls=key in effects.calling
        )
        for key, read in effects.read.items()
    }
    plan.stores = {key: _shown(plan, [*effects.bound.get(key, ()), *anywhere]) for key in effects.read}
    plan.quiet_stores = {key: binds for key, binds in plan.stores.items() if key not in effects.changing}


def _shown(plan: CodePlan, names: list[str]) -> tuple[str, ...]:
    kept = (name for name in dict.fromkeys(names) if name not in plan.hidden and not is_hidden_name(name))
    return tuple(kept)


def _bound_by_skipped_code(code: types.CodeType) -> list[str]:
    """Names that comprehensions of `code` bind in it by `:=`; a generator does it whenever it goes on."""
    found: list[str] = []
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and is_skipped(constant):
            found += [*constant.co_freevars, *constant.co_names, *_bound_by_skipped_code(constant)]
    return found


def wrap_expression_values(tree: ast.Module) -> None:
    """Changes `tree` so that expression statements report their value; lines stay the same."""
    for node in list(_statements(tree)):
        if isinstance(node, ast.Expr):
            if not isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom):
                node.value = _wrapped(node.value)
        elif isinstance(node, ast.Assign):
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id[:1] == "<":  # a last expression: the result
                node.value = _wrapped(node.value)


def _wrapped(value: ast.expr) -> ast.expr:
    """The same expression, whose value passes through the tracer."""
    name = ast.copy_location(ast.Name(id=VALUE_HOOK, ctx=ast.Load()), value)
    return ast.copy_location(ast.Call(func=name, args=[value], keywords=[]), value)


def executable_lines(code: types.CodeType, source: SourcePlan, *, by_line: bool = False) -> frozenset[int]:
    """Lines of `code` and the code in it at which a step can be."""
    found: set[int] = set()
    waiting = [code]
    while waiting:
        current = waiting.pop()
        waiting += [item for item in current.co_consts if isinstance(item, types.CodeType)]
        if is_skipped(current):
            continue
        bytecode = current.co_code
        for start, end, line in current.co_lines():
            if line and not _PROLOGUE.issuperset(bytecode[start:end:2]):
                found.add(line if by_line else source.statement(line))
    return frozenset(found)


_PROLOGUE = frozenset(
    dis.opmap[name] for name in ("RESUME", "COPY_FREE_VARS", "MAKE_CELL", "RETURN_GENERATOR")
)
"""What a function does before its first line."""
