"""What can be known about user code before it runs: its statements and what each of them may do."""

import ast
import dis
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sandboxd.guest.debug.scopes import comprehension_names, is_hidden_name

VALUE_HOOK = "<expression value>"
"""Name under which expression statements find the tracer. No program can spell it."""
_SKIPPED_CODE = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
"""Comprehensions are part of their statement: from 3.12 on most have no frame of their own."""
_CHANGING = frozenset(
    {
        "STORE_SUBSCR",
        "DELETE_SUBSCR",
        "STORE_SLICE",
        "STORE_ATTR",
        "DELETE_ATTR",
        "YIELD_VALUE",
        "IMPORT_STAR",
    }
)
_CALLING = ("CALL", "SEND", "BEFORE_WITH", "BEFORE_ASYNC_WITH", "WITH_EXCEPT_START", "FOR_ITER")
_BINDING = ("STORE_FAST", "STORE_NAME", "STORE_DEREF", "STORE_GLOBAL", "DELETE_", "LOAD_FAST_AND_CLEAR")
_REFLECTIVE = frozenset({"exec", "eval", "globals", "locals", "vars", "setattr", "delattr", "__import__"})
_STARTS = (ast.stmt, ast.excepthandler, ast.match_case)


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
        self._statements = _map_statements(tree, len(self.lines))
        self.one_line_loops = frozenset(_one_line_loops(tree))
        self._comprehension_names = comprehension_names(tree)

    def comprehension_names(self, code: types.CodeType) -> frozenset[str]:
        """Variables of `code` that only its comprehensions bind."""
        return self._comprehension_names.get((code.co_firstlineno, code.co_name), frozenset())

    def statement(self, line: int) -> int:
        """First line of the innermost statement that `line` belongs to."""
        return self._statements[line] if 0 < line < len(self._statements) else line

    def text(self, line: int) -> str:
        """The line's text, "" when there is none."""
        return self.lines[line - 1] if 0 < line <= len(self.lines) else ""


def _map_statements(tree: ast.Module, count: int) -> list[int]:
    starts = list(range(count + 2))
    for node in _outer_first(tree):
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
        for line in range(first, min(node.end_lineno or first, count) + 1):
            starts[line] = first
    return starts


def _outer_first(tree: ast.AST) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, _STARTS):
            yield _located(child)
        yield from _outer_first(child)


def _located(node: ast.AST) -> ast.stmt:
    if isinstance(node, ast.match_case):
        end = node.body[-1].end_lineno or node.pattern.lineno
        return ast.Pass(lineno=node.pattern.lineno, end_lineno=end, col_offset=0, end_col_offset=0)
    assert isinstance(node, ast.stmt | ast.excepthandler)
    return node  # type: ignore[return-value]  # only lines and decorators are read


def _one_line_loops(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
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
    is_class: bool
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
        is_class=not code.co_flags & 0x3 and code.co_name != "<module>",
        statement_of=_statement_list(code, source, by_line=by_line),
        hidden=source.comprehension_names(code),
        bytecode=code.co_code,
    )
    _read_instructions(plan)
    return plan


def _statement_list(code: types.CodeType, source: SourcePlan, *, by_line: bool) -> Sequence[int]:
    last = max((line or 0 for _start, _end, line in code.co_lines()), default=0)
    return range(last + 2) if by_line else [source.statement(line) for line in range(last + 2)]


def _read_instructions(plan: CodePlan) -> None:
    names: dict[int, set[str]] = {}
    bound: dict[int, list[str]] = {}
    changes: set[int] = set()
    calls: set[int] = set()
    stored: list[str] = []
    used: set[str] = set()
    anywhere = _bound_by_skipped_code(plan.code)
    for instruction in dis.get_instructions(plan.code):
        line = instruction.positions.lineno if instruction.positions else None
        operation, argument = instruction.opname, instruction.argval
        if operation.startswith(_BINDING):
            binds = _names_in(operation, argument)
            (anywhere if line is None else bound.setdefault(plan.statement_of[line], [])).extend(binds)
        if line is None:
            continue
        key = plan.statement_of[line]
        seen = names.setdefault(key, set())
        if operation.startswith("LOAD_") or "LOAD_FAST" in operation:
            found = _names_in(operation, argument)
            seen.update(found)
            if operation in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
                used.update(found)
        elif operation in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
            plan.is_module and operation in ("STORE_NAME", "DELETE_NAME")
        ):
            stored.append(argument)
        if operation in _CHANGING or (operation == "BINARY_OP" and instruction.argrepr.endswith("=")):
            changes.add(key)
        if operation.startswith(_CALLING):
            calls.add(key)
            changes.add(key)
    plan.stored_globals = tuple(dict.fromkeys(stored))
    plan.used_globals = frozenset(used)
    plan.reflective = bool(used & _REFLECTIVE) or "IMPORT_STAR" in plan.code.co_names
    plan.statements = {
        key: StatementPlan(names=frozenset(seen), changes=key in changes, calls=key in calls)
        for key, seen in names.items()
    }
    plan.stores = {key: _shown(plan, [*bound.get(key, ()), *anywhere]) for key in names}
    plan.quiet_stores = {key: binds for key, binds in plan.stores.items() if key not in changes}


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


def _names_in(operation: str, argument: object) -> tuple[str, ...]:
    if operation in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_CONST", "LOAD_SUPER_ATTR", "DELETE_ATTR"):
        return ()
    if isinstance(argument, str):
        return (argument,)
    if isinstance(argument, tuple):
        return tuple(name for name in argument if isinstance(name, str))
    return ()


class _ValueWrapper(ast.NodeTransformer):
    """Passes the value of each expression statement through the tracer."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id[:1] == "<":  # a last expression, kept as the result
            node.value = self._wrapped(node.value)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        self.generic_visit(node)
        value = node.value
        if isinstance(value, ast.Constant | ast.Yield | ast.YieldFrom):
            return node
        node.value = self._wrapped(value)
        return node

    @staticmethod
    def _wrapped(value: ast.expr) -> ast.expr:
        name = ast.copy_location(ast.Name(id=VALUE_HOOK, ctx=ast.Load()), value)
        return ast.copy_location(ast.Call(func=name, args=[value], keywords=[]), value)


def wrap_expression_values(tree: ast.Module) -> ast.Module:
    """`tree`, changed so that expression statements report their value; lines stay the same."""
    wrapped: ast.Module = _ValueWrapper().visit(tree)
    return wrapped


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
