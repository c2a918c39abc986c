"""Names of types, read without running a metaclass's code."""

from typing import Any

_QUALIFIED_NAME: Any = type.__dict__["__qualname__"]
_MODULE: Any = type.__dict__["__module__"]
_UNSAID_MODULES = ("builtins", "__main__")
_LONGEST_NAME = 200


def qualified_name(kind: type) -> str:
    """`Counter`, `Outer.Inner`; always a str that can be encoded, at most 200 characters."""
    return clean_text(_QUALIFIED_NAME.__get__(kind), _LONGEST_NAME)


def module_name(kind: type) -> str:
    """The module a type says it comes from, or an empty string."""
    try:
        module = _MODULE.__get__(kind)
    except AttributeError:
        return ""
    return clean_text(module, _LONGEST_NAME) if type(module) is str else ""


def type_name(kind: type) -> str:
    """`int`, `Counter` of user code, `collections.Counter`: as Python's tracebacks write it."""
    module = module_name(kind)
    name = qualified_name(kind)
    return name if not module or module in _UNSAID_MODULES else f"{module}.{name}"


def clean_text(text: str, limit: int | None = None) -> str:
    """The first `limit` characters of an exact or derived str, as an exact one that UTF-8 can encode."""
    text = str.__getitem__(text, slice(0, limit))
    try:
        str.encode(text, "utf-8")
    except UnicodeEncodeError:
        return str.encode(text, "utf-8", "backslashreplace").decode("utf-8")
    return text
