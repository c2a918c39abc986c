"""Runs programs under the tracer in this process, without a host."""

import ast
import builtins
import contextlib
import gc
import io
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sandboxd.channel import debug
from sandboxd.guest.debug.plan import SourcePlan, wrap_expression_values
from sandboxd.guest.debug.run import DebugRun, answer_query, install_value_hook

LABEL = "<execution 1>"


@dataclass
class FakeHost:
    """Takes what the guest says; answers each stop by the next scripted command."""

    script: list[Any] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    interrupted: bool = False

    def send(self, message: Any) -> None:
        self.messages.append(message)

    def next_command(self, *, wait: bool) -> Any | None:
        if not wait:
            return None
        if self.script:
            command = self.script.pop(0)
            return command(self) if callable(command) else command
        return debug.ResumeRun(command_id=0, mode="continue")

    def fork(self, order: Any) -> bool:
        raise AssertionError("nobody here orders copies")

    def refuse_fork(self, order: Any, problem: str) -> None:
        raise AssertionError("nobody here orders copies")

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]


@dataclass
class Traced:
    """What a traced run left."""

    run: DebugRun
    host: FakeHost
    namespace: dict[str, Any]
    stdout: str
    error: BaseException | None

    def ask(self, question: Any, **limits: int) -> debug.CommandDone:
        return answer_query(
            self.run.trace, debug.QueryTrace(command_id=1, run_id=1, question=question, **limits)
        )


class _Counting(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.written = [0]

    def write(self, text: str) -> int:
        self.written[0] += len(text.encode("utf-8", "backslashreplace"))
        return super().write(text)


def compile_program(source: str, *, wrapped: bool) -> tuple[SourcePlan, Any]:
    tree = ast.parse(source)
    plan = SourcePlan(source, tree, LABEL)
    if wrapped:
        wrap_expression_values(tree)
    return plan, compile(tree, LABEL, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def run_code(code: Any, namespace: dict[str, Any]) -> BaseException | None:
    """Runs a program to its end, top-level await included; every run meets the same random numbers."""
    random.seed(7)
    try:
        result = eval(code, namespace)
        if result is not None:
            import asyncio

            asyncio.run(result)
    except BaseException as error:  # noqa: BLE001  the outcome is what is compared
        return error
    return None


def fresh_namespace(**variables: Any) -> dict[str, Any]:
    return {"__name__": "__main__", "__builtins__": dict(vars(builtins)), **variables}


@contextlib.contextmanager
def captured() -> Iterator[_Counting]:
    out = _Counting()
    with contextlib.redirect_stdout(out):
        yield out


def trace_program(
    source: str, *script: Any, namespace: dict[str, Any] | None = None, **settings: Any
) -> Traced:
    """Runs `source` under the tracer; `script` answers its stops."""
    gc.collect()  # what earlier programs left must not end inside this one
    plan, code = compile_program(source, wrapped=True)
    host = FakeHost(script=list(script))
    variables = fresh_namespace() if namespace is None else namespace
    with captured() as out:
        run = DebugRun(
            run_id=1,
            settings=debug.DebugSettings(**settings),
            source=plan,
            code=code,
            line=host,
            stdout=out.written,
        )
        install_value_hook(variables, run)
        recursion = sys.getrecursionlimit()
        run.start()
        try:
            error = run_code(code, variables)
        finally:
            run.stop()
            sys.setrecursionlimit(recursion)
    return Traced(run=run, host=host, namespace=variables, stdout=out.getvalue(), error=error)
