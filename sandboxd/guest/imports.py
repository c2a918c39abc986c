"""The builtins of user frames, with the language rules built in: guidance for agents, never the boundary.

Only frames whose globals carry this dict feel it. Libraries keep the real builtins: pandas needs `os`.
"""

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sandboxd.guest.language import Language, LanguageRuleError


def fill_builtins(found: dict[str, Any], language: Language, guest_api: Mapping[str, Any]) -> None:
    """Makes `found` what user code finds when it looks beyond its own names: Python's builtins, the guest
    API, and refusals in place of what the rules block."""
    found.clear()
    found.update(vars(builtins))
    found.update(guest_api)
    if language.restricted:
        for name in language.blocked_builtins:
            found[name] = _refusing(language, name)
        found["__import__"] = _guarded_import(language)


def _refusing(language: Language, name: str) -> Callable[..., Any]:
    def refuse(*_arguments: Any, **_named: Any) -> Any:
        raise language.builtin_refusal(name)

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def _guarded_import(language: Language) -> Callable[..., Any]:
    real_import = builtins.__import__

    def guarded_import(
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002  the names that builtins.__import__ has
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level == 0:
            refusal: LanguageRuleError | None = language.module_refusal(name, tuple(fromlist or ()))
            if refusal is not None:
                raise refusal
        return real_import(name, globals, locals, fromlist or (), level)

    guarded_import.__name__ = guarded_import.__qualname__ = "__import__"
    return guarded_import
