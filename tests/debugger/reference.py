"""An independent tracer in plain Python: sys.settrace, a list, and copies of plain data.

Shares no code with the product. What it cannot copy safely it leaves out, so a comparison covers lines,
functions and every variable of plain data.
"""

import ast
import sys
from dataclasses import dataclass
from typing import Any

_COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
_PLAIN = (int, float, bool, str, bytes, type(None), complex)


@dataclass
class Seen:
    """One line about to run."""

    function: str
    line: int
    variables: dict[str, Any]
    bound: frozenset[str] = frozenset()
    """Names of all variables, those too that could not be copied."""


def plain_copy(value: Any, depth: int = 3) -> tuple[bool, Any]:
    """Whether `value` is small plain data, and a copy of it."""
    kind = type(value)
    if kind in (str, bytes):
        return len(value) <= 80, value
    if kind is int:
        return abs(value) < 2**63, value
    if kind in (float, bool, type(None)):
        return value == value, value
    if kind in (list, tuple, set) and len(value) <= 10 and depth:
        parts = [plain_copy(part, depth - 1) for part in value]
        return all(ok for ok, _ in parts), kind(part for _, part in parts)
    if kind is dict and len(value) <= 10 and depth:
        pairs = [(plain_copy(key, 1), plain_copy(part, depth - 1)) for key, part in value.items()]
        return all(k[0] and v[0] for k, v in pairs), {k[1]: v[1] for k, v in pairs}
    return False, None


def statement_lines(source: str) -> dict[int, int]:
    """First line of the innermost statement of each line."""
    found: dict[int, int] = {}

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.match_case):
                for line in range(child.pattern.lineno, child.body[-1].end_lineno + 1):
                    found[line] = child.pattern.lineno
            elif isinstance(child, ast.stmt | ast.excepthandler):
                first = min([child.lineno, *(d.lineno for d in getattr(child, "decorator_list", []))])
                for line in range(first, child.end_lineno + 1):
                    found[line] = first
            visit(child)

    visit(ast.parse(source))
    return found


def comprehension_lines(source: str) -> set[int]:
    """First lines of statements with a comprehension: from 3.12 on each turn of it is an event."""
    statements = statement_lines(source)
    kinds = ast.ListComp | ast.SetComp | ast.DictComp
    return {
        statements.get(line, line)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds)
        for line in range(node.lineno, node.end_lineno + 1)
    }


def comprehension_variables(source: str) -> set[str]:
    """Names that comprehensions bind; from 3.12 on they show among a function's variables."""
    return {
        name.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }


class ReferenceTracer:
    """Follows one program in the main thread."""

    def __init__(self, source: str, label: str) -> None:
        self._label = label
        self._statements = statement_lines(source)
        self._looping = comprehension_lines(source)
        self._inlined = comprehension_variables(source) if sys.version_info >= (3, 12) else set()
        self.seen: list[Seen] = []
        self._last: dict[int, tuple[int, int]] = {}
        self._resumed: set[int] = set()

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != self._label or frame.f_code.co_name in _COMPREHENSIONS:
            return None
        key = id(frame)
        if event == "call":
            if key in self._last and frame.f_code.co_flags & 0x2A0 and frame.f_lasti > 8:
                self._resumed.add(key)
            else:
                self._last.pop(key, None)
        elif event == "line":
            self._line(frame, key)
        elif event == "return" and not frame.f_code.co_flags & 0x2A0:
            self._last.pop(key, None)
        return self

    def _line(self, frame: Any, key: int) -> None:
        raw = frame.f_lineno
        statement = self._statements.get(raw, raw)
        last_raw, last_statement = self._last.get(key, (0, 0))
        resumed = key in self._resumed
        self._resumed.discard(key)
        self._last[key] = (raw, statement)
        if statement == last_statement and (raw != last_raw or resumed or statement in self._looping):
            return
        module = frame.f_code.co_name == "<module>"
        held = frame.f_globals if module else frame.f_locals
        variables = {}
        for name, value in list(held.items()):
            ok, copy = plain_copy(value)
            if ok and not name.startswith("__") and (module or name not in self._inlined):
                variables[name] = copy
        self.seen.append(Seen(frame.f_code.co_name, statement, variables, frozenset(held)))


def reference_run(
    source: str, label: str, code: Any, namespace: dict[str, Any], run: Any
) -> tuple[Any, list[Seen]]:
    """Runs `code` by `run` under the reference tracer."""
    tracer = ReferenceTracer(source, label)
    sys.settrace(tracer)
    try:
        error = run(code, namespace)
    finally:
        sys.settrace(None)
    return error, tracer.seen
