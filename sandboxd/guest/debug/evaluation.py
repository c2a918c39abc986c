"""Runs an expression in a frame of a stopped program."""

import ctypes
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from sandboxd.guest.debug.layouts import type_name
from sandboxd.guest.debug.show import show

_MAX_OUTPUT = 64 * 1024
_RUN_NAME = "<evaluation>"


class EvaluationTimedOut(Exception):
    """The expression took longer than it may."""


@contextmanager
def deadline(milliseconds: int) -> Iterator[None]:
    """Raises `EvaluationTimedOut` in the body after the time; in the main thread only.

    SIGALRM is borrowed and given back, with what is left of the program's own timer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_signal: int, _frame: types.FrameType | None) -> None:
        raise EvaluationTimedOut

    previous = signal.signal(signal.SIGALRM, expire)
    remaining = signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *remaining)
        signal.signal(signal.SIGALRM, previous)


def is_expression(text: str) -> bool:
    """Whether `text` can be evaluated; what it fails with otherwise shows when it is tried."""
    try:
        compile(text.strip(), _RUN_NAME, "eval", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def run_in_frame(
    frame: types.FrameType, text: str, *, timeout_ms: int, statements: bool
) -> tuple[Any, bytes]:
    """The value of `text` in `frame`, None for statements, and what it wrote to stdout.

    What the text binds by `:=` or assignment in a function's frame is lost, as in any debugger that has
    no way to write there; `set_variable` is that way.
    """
    try:
        code, mode = compile(text.strip(), _RUN_NAME, "eval", dont_inherit=True), "eval"
    except SyntaxError:
        if not statements:
            raise
        code, mode = compile(text, _RUN_NAME, "exec", dont_inherit=True), "exec"
    variables: Any = frame.f_globals if frame.f_code.co_name == "<module>" else dict(frame.f_locals)
    written = StringIO()
    with redirect_stdout(written), deadline(timeout_ms):
        run: Callable[..., Any] = eval if mode == "eval" else exec
        value = run(code, frame.f_globals, variables)
    return value, written.getvalue().encode("utf-8", "backslashreplace")[:_MAX_OUTPUT]


def bind(frame: types.FrameType, name: str, value: Any) -> str:
    """Binds `name` in `frame`; why it cannot be, "" when it was.

    CPython 3.13 writes through `f_locals`; before, the frame's snapshot is written and copied back, which
    works for variables that the function itself has.
    """
    if frame.f_code.co_name == "<module>":
        frame.f_globals[name] = value
        return ""
    code = frame.f_code
    own = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
    if name not in own and name in frame.f_globals:
        frame.f_globals[name] = value
        return ""
    if name not in own:
        return f"{name!r} is no variable of {code.co_name}"
    variables = frame.f_locals
    variables[name] = value
    if sys.version_info < (3, 13):
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
    return ""


def fill_in(text: str, frame: types.FrameType, picture: Callable[[Any], bytes]) -> str:
    """`text` with each `{expression}` replaced by its value in `frame`."""
    out = []
    rest = text
    while "{" in rest:
        head, _brace, rest = rest.partition("{")
        expression, closed, rest = rest.partition("}")
        out.append(head)
        if not closed:
            out.append("{" + expression)
            break
        try:
            value, _written = run_in_frame(frame, expression, timeout_ms=1000, statements=False)
            out.append(show(picture(value), 200).strip("'"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            out.append(f"<{type_name(type(error))}>")
    return "".join(out) + rest
