"""What user code may import and call: guidance for agents, never the boundary.

The kernel holds a guest whether or not these rules are on. They exist so that an agent gets a clear,
early, located error with an alternative instead of a puzzling one from deep inside a library.
"""

from dataclasses import dataclass

ALLOWED_MODULES: tuple[str, ...] = (
    # the wish-list's own
    "json", "datetime", "math", "random", "collections", "pandas", "numpy", "re", "string", "requests",
    "aiohttp", "urllib.parse",
    # the rest of what ordinary data programs import; none of them reaches outside the sandbox by itself
    "abc", "array", "asyncio", "base64", "binascii", "bisect", "calendar", "cmath", "concurrent.futures",
    "contextlib", "contextvars", "copy", "csv", "dataclasses", "dateutil", "decimal", "difflib", "enum",
    "fractions", "functools", "gc", "graphlib", "hashlib", "heapq", "hmac", "html", "io", "itertools",
    "keyword", "locale", "logging", "numbers", "operator", "pathlib", "pprint", "queue", "reprlib",
    "secrets", "sched", "statistics", "struct", "tempfile", "textwrap", "threading", "time", "timeit",
    "traceback", "types", "typing", "typing_extensions", "unicodedata", "unittest", "uuid", "warnings",
    "weakref", "zlib", "zoneinfo", "__future__",
)  # fmt: skip
"""Importable by default; a name allows its submodules."""

BLOCKED_MODULES: dict[str, str] = {
    "os": "use pathlib for files in the workspace; there is no shell and no environment",
    "sys": "print() writes to stdout; raise an exception to end the run",
    "subprocess": "no program can be started here; do the work in Python",
    "socket": "network is off in this sandbox; pass data in with the request",
    "urllib": "urllib.parse is allowed; network is off in this sandbox",
    "urllib.request": "network is off in this sandbox; pass data in with the request",
    "multiprocessing": "use threading or asyncio; no process can be started here",
    "ctypes": "use numpy or struct for binary data",
    "shutil": "use pathlib for files in the workspace",
    "signal": "limits are held from outside; use asyncio.timeout inside",
    "importlib": "write an import statement for an allowed module",
    "inspect": "use inspect_var(name, value) to record a value",
    "pickle": "use json, or pandas' own formats",
    "builtins": "call the builtin by its name",
}
"""Refused with an alternative; modules in neither table are refused with the list of allowed ones."""

BLOCKED_BUILTINS: dict[str, str] = {
    "eval": "use json.loads or ast-free parsing; call the expression directly",
    "exec": "write the statements into the code you send",
    "compile": "write the code into the text you send",
    "globals": "keep values in a dict of your own",
    "locals": "keep values in a dict of your own",
    "vars": "use dataclasses.asdict, or keep values in a dict of your own",
    "__import__": "write an import statement",
    "input": "pass data in with the request",
    "breakpoint": "use the Debug call, or debug() and inspect_var()",
}
"""Builtins refused in user code, with an alternative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePolicy:
    """The language rules of one sandbox."""

    restricted: bool = True
    """False switches every rule off for this sandbox."""
    allowed_modules: tuple[str, ...] = ALLOWED_MODULES
    blocked_builtins: tuple[str, ...] = tuple(BLOCKED_BUILTINS)
