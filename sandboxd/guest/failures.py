"""An exception of user code as a `FailureReport`: bounded, in the user's own lines, without host paths.

Formatting an exception runs user code (`__str__`, `__notes__`, attributes of its objects): it happens
where a SIGINT can end it, and then costs the message only.
"""

import inspect
import linecache
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from sandboxd.channel.messages import FailureReport, FrameReport, VariableReport, Violation
from sandboxd.guest.interrupts import run_interruptible
from sandboxd.guest.language import LanguageRuleError
from sandboxd.guest.stacks import Origins, Place, UserStack, places_of
from sandboxd.guest.summary import summarize_variable
from sandboxd.guest.type_names import clean_text, qualified_name, type_name

_LONGEST_MESSAGE = 8 * 1024
_LONGEST_TRACEBACK = 32 * 1024
_LONGEST_LINE = 500
_MOST_FRAMES = 40
_MOST_VARIABLES = 30
_MOST_VIOLATIONS = 50
_NO_MEMORY = "no memory is left within the sandbox's limit"
_UNREADABLE = "<message could not be read>"


def describe_failure(
    error: BaseException,
    *,
    namespace: dict[str, Any],
    suspended: Iterable[Place] = (),
    capture_frames: bool = False,
) -> FailureReport:
    """The report of what ended an execution. Never raises because of what user code does."""
    message, readable = _message(error)
    places = [*places_of(error), *suspended]
    origins = Origins.of(error, places, namespace)
    return FailureReport(
        kind=_kind(error),
        type_name=type_name(type(error)),
        message=message,
        traceback=_traceback_text(error, message, origins, places, readable=readable),
        frames=_frame_reports(places, origins, namespace, capture_variables=capture_frames),
        violations=_violations(error, places, namespace),
    )


def describe_syntax_error(error: SyntaxError) -> FailureReport:
    """The report of a text that is no program."""
    lines = traceback.format_exception_only(type(error), error)
    return FailureReport(
        kind="syntax_error",
        type_name=qualified_name(type(error)),
        message=clean_text(str(error.msg), _LONGEST_MESSAGE) + _position(error),
        traceback=clean_text("".join(_cut(line) for line in lines), _LONGEST_TRACEBACK),
    )


def describe_violations(violations: list[Violation]) -> FailureReport:
    """The report of a text that was refused before it ran."""
    first = violations[0]
    others = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    lines = [
        f"line {each.line}, column {each.column}: {each.message}; {each.alternative}"
        for each in violations[:_MOST_VIOLATIONS]
    ]
    return FailureReport(
        kind="policy_violation",
        type_name="LanguageRuleError",
        message=f"line {first.line}: {first.message}; {first.alternative}{others}",
        traceback="\n".join(lines),
        violations=violations[:_MOST_VIOLATIONS],
    )


def out_of_memory() -> FailureReport:
    """The report when there was no memory even for a better one."""
    return FailureReport(
        kind="memory_error", type_name="MemoryError", message=_NO_MEMORY, traceback="MemoryError\n"
    )


def unreported(error: BaseException) -> FailureReport:
    """The report when making a better one failed."""
    return FailureReport(
        kind="exception",
        type_name="RuntimeError",
        message=f"the outcome could not be reported: {qualified_name(type(error))}",
        traceback="",
    )


def _position(error: SyntaxError) -> str:
    return f" (line {error.lineno})" if error.lineno else ""


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ...\n"


def _kind(error: BaseException) -> Any:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError):
        return "memory_error"
    if isinstance(error, LanguageRuleError):
        return "policy_violation"
    return "exception"


def _attempt(function: Callable[[], str]) -> str | None:
    try:
        return run_interruptible(function)
    except BaseException:
        return None


def _message(error: BaseException) -> tuple[str, bool]:
    text = _attempt(lambda: clean_text(str(error), _LONGEST_MESSAGE))
    if not text and isinstance(error, MemoryError):
        return _NO_MEMORY, True  # Python leaves it empty
    return (_UNREADABLE, False) if text is None else (text, True)


def _traceback_text(
    error: BaseException, message: str, origins: Origins, places: list[Place], *, readable: bool
) -> str:
    if readable and not isinstance(error, KeyboardInterrupt):
        text = _attempt(lambda: _full_text(error, origins))
        if text is not None:
            return text
    summary = traceback.StackSummary.extract(iter(places), lookup_lines=False)
    name = type_name(type(error))
    last = f"{name}: {message}\n" if message else f"{name}\n"
    lines = ["Traceback (most recent call last):\n", *UserStack(summary, origins).format(), last]
    return _bound("".join(lines))


def _full_text(error: BaseException, origins: Origins) -> str:
    """With causes, contexts, notes and groups."""
    formatted = traceback.TracebackException(
        type(error), error, error.__traceback__, lookup_lines=False, compact=True
    )
    waiting: list[Any] = [formatted]
    while waiting:  # not recursive: a chain of contexts may be long
        each = waiting.pop()
        each.stack = UserStack(each.stack, origins)
        waiting += [linked for linked in (each.__cause__, each.__context__) if linked is not None]
        waiting += each.exceptions or []
    return _bound("".join(formatted.format()))


def _bound(text: str) -> str:
    text = clean_text(text)
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    half = _LONGEST_TRACEBACK // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def _frame_reports(
    places: list[Place], origins: Origins, namespace: dict[str, Any], *, capture_variables: bool
) -> list[FrameReport]:
    shown = origins.shown(places)
    return [
        _frame_report(frame, line, origins, namespace, capture_variables=capture_variables)
        for frame, line in shown[-_MOST_FRAMES:]
    ]


def _frame_report(
    frame: FrameType, line: int, origins: Origins, namespace: dict[str, Any], *, capture_variables: bool
) -> FrameReport:
    code = frame.f_code
    in_user_code = frame.f_globals is namespace
    source_line = linecache.getline(code.co_filename, line).strip() if in_user_code else ""
    return FrameReport(
        function=clean_text(code.co_qualname, _LONGEST_LINE),
        label=clean_text(
            code.co_filename if in_user_code else origins.module_of(code.co_filename), _LONGEST_LINE
        ),
        line=line or 0,
        source_line=clean_text(source_line, _LONGEST_LINE),
        in_user_code=in_user_code,
        variables=_variables(frame, namespace) if capture_variables and in_user_code else [],
    )


def _variables(frame: FrameType, namespace: dict[str, Any]) -> list[VariableReport]:
    """The frame's locals; of a module-level frame those names that its code mentions."""
    code = frame.f_code
    if code.co_flags & inspect.CO_OPTIMIZED:
        found = dict(frame.f_locals)
    else:
        local = frame.f_locals
        found = {name: local[name] for name in code.co_names if name in local}
    names = [name for name in found if not name.startswith(("__", "<", "."))]
    return [summarize_variable(name, found[name]) for name in names[:_MOST_VARIABLES]]


def _violations(error: BaseException, places: list[Place], namespace: dict[str, Any]) -> list[Violation]:
    if not isinstance(error, LanguageRuleError):
        return []
    lines = [line for frame, line in places if frame.f_globals is namespace]
    return [error.violation(line=lines[-1] if lines else 0)]
