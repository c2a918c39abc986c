"""User text made ready to run, and run: the seam where a tracer can take over.

`prepare` parses, checks and compiles; `execute` runs the code object in a namespace. A debugger changes the
tree before it is compiled, and watches what the second runs.
"""

import ast
import inspect
import io
import linecache
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from sandboxd.channel.messages import Violation
from sandboxd.guest.coroutines import Outcome, run_coroutine
from sandboxd.guest.interrupts import run_interruptible

LAST_VALUE = "<last value>"
"""Name of the namespace that receives the last expression; no identifier, so no program can mean it."""
_REMEMBERED_SOURCES = 64
_MOST_CACHED_FILES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One execution's text, compiled."""

    label: str
    source: str
    tree: ast.Module
    """As compiled: a last expression has become an assignment to `LAST_VALUE`."""
    code: CodeType

    @property
    def is_coroutine(self) -> bool:
        """Has a top-level await."""
        return bool(self.code.co_flags & inspect.CO_COROUTINE)


class RulesBroken(Exception):
    """The text visibly breaks language rules; nothing of it ran."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(f"{len(violations)} language rules broken")
        self.violations = violations


def prepare(
    source: str,
    label: str,
    *,
    check: Callable[[ast.Module], list[Violation]] | None = None,
    change: Callable[[ast.Module], None] | None = None,
) -> Program:
    """Parses, checks by `check`, lets `change` work on the tree and compiles.

    Raises SyntaxError for anything that is no program (nesting too deep, a null byte and a lone surrogate
    included) and `RulesBroken` when `check` found something.
    """
    remember_source(label, source)
    try:
        tree = ast.parse(source, label)
        violations = check(tree) if check is not None else []
        if violations:
            raise RulesBroken(violations)
        _keep_last_value(tree)
        if change is not None:
            change(tree)
        code = compile(tree, label, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (RecursionError, MemoryError) as error:
        raise SyntaxError("the code is nested too deeply", (label, 1, 1, "")) from error
    except UnicodeEncodeError as error:
        line = source.count("\n", 0, error.start) + 1
        raise SyntaxError("a character is half of a surrogate pair", (label, line, 1, "")) from error
    except (ValueError, OverflowError) as error:
        raise SyntaxError(str(error), (label, 1, 1, "")) from error
    return Program(label=label, source=source, tree=tree, code=code)


def execute(program: Program, namespace: dict[str, Any]) -> Outcome:
    """Runs `program` in `namespace`; what user code raises, SystemExit and KeyboardInterrupt included, is
    in the outcome."""
    if program.is_coroutine:
        return run_coroutine(lambda: eval(program.code, namespace))
    try:
        run_interruptible(lambda: exec(program.code, namespace))
    except BaseException as error:
        return Outcome(error=error)
    return Outcome()


def _keep_last_value(tree: ast.Module) -> None:
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        target = ast.Name(id=LAST_VALUE, ctx=ast.Store())
        assignment = ast.Assign(targets=[target], value=last.value)
        ast.copy_location(target, last)
        tree.body[-1] = ast.copy_location(assignment, last)


def remember_source(label: str, source: str) -> None:
    """Lets tracebacks of this and later executions show the lines of `label`."""
    if len(linecache.cache) > _MOST_CACHED_FILES:
        # Those without a modification time came from here, the oldest first.
        labels = [name for name, entry in linecache.cache.items() if len(entry) > 1 and entry[1] is None]
        for name in labels[:-_REMEMBERED_SOURCES]:
            del linecache.cache[name]
    linecache.cache[label] = (len(source), None, io.StringIO(source, newline=None).readlines(), label)
