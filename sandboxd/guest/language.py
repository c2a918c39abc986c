"""What the language rules say about a module or builtin: guidance for agents, never the boundary."""

from sandboxd import policy
from sandboxd.channel.messages import LanguageRules, Violation

_MOST_NAMED = 12


class LanguageRuleError(Exception):
    """User code did, while running, what the language rules refuse."""

    __module__ = "builtins"  # as user code finds it

    def __init__(self, *, rule: str, message: str, alternative: str) -> None:
        super().__init__(f"{message}; {alternative}")
        self.rule = rule
        self.message = message
        self.alternative = alternative

    def violation(self, *, line: int) -> Violation:
        """The same as a place in the text; the column of a running program is not known."""
        return Violation(
            rule=self.rule, message=self.message, line=line, column=1, alternative=self.alternative
        )


class ImportRefused(LanguageRuleError, ImportError):
    """An import that the rules refuse; an ImportError, so that a program's own fallback works."""

    __module__ = "builtins"  # as user code finds it


class BuiltinRefused(LanguageRuleError, NameError):
    """A builtin that the rules refuse; a NameError, as if it were not there."""

    __module__ = "builtins"  # as user code finds it


class Language:
    """The rules of one sandbox, ready to be asked."""

    def __init__(self, rules: LanguageRules) -> None:
        self.restricted = rules.restricted
        self.blocked_builtins = frozenset(rules.blocked_builtins) if rules.restricted else frozenset()
        self._verdicts = dict.fromkeys(rules.blocked_modules, False)
        self._verdicts.update(dict.fromkeys(rules.allowed_modules, True))
        self._allowed = tuple(rules.allowed_modules)

    def module_refusal(self, name: str, imported: tuple[str, ...] = ()) -> LanguageRuleError | None:
        """Why `import name`, or `from name import <imported>`, is refused; None when it is not.

        The most specific rule decides; `from package import module` may be allowed by its modules alone.
        """
        if not self.restricted or self._allows(name):
            return None
        if imported and all(self._allows(f"{name}.{each}") for each in imported):
            return None
        if not imported and name not in self._verdicts and self._is_parent(name):
            return None  # `import a` where only a.b is allowed and nothing is said about a itself
        return self._refusal(name)

    def builtin_refusal(self, name: str) -> BuiltinRefused:
        """The error for a blocked builtin."""
        return BuiltinRefused(
            rule="blocked-builtin",
            message=f"{name}() is not available here",
            alternative=policy.BLOCKED_BUILTINS.get(name, "write the program without it"),
        )

    def _is_parent(self, name: str) -> bool:
        return any(allowed.startswith(f"{name}.") for allowed in self._allowed)

    def _allows(self, name: str) -> bool:
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            verdict = self._verdicts.get(".".join(parts[:length]))
            if verdict is not None:
                return verdict
        return False

    def _refusal(self, name: str) -> ImportRefused:
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            alternative = policy.BLOCKED_MODULES.get(".".join(parts[:length]))
            if alternative is not None:
                break
        else:
            alternative = f"allowed are {self._named()}"
        return ImportRefused(
            rule="blocked-module",
            message=f"module {name!r} may not be imported here",
            alternative=alternative,
        )

    def _named(self) -> str:
        shown = ", ".join(self._allowed[:_MOST_NAMED])
        more = len(self._allowed) - _MOST_NAMED
        return f"{shown} and {more} more (see GetCapabilities)" if more > 0 else shown or "none"
