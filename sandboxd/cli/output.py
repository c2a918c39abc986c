"""How commands speak: facts on stdout (as JSON where asked), problems on stderr, exit codes."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, NoReturn

import typer

FAILED = 1
"""What was asked for did not succeed: user code failed, the machine lacks something."""
UNUSABLE = 2
"""The command could not be carried out: settings, connection, permissions."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(thing: Any) -> None:
    """One JSON document on stdout, on one line."""
    sys.stdout.write(json.dumps(plain(thing), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def plain(thing: Any) -> Any:
    """`thing` as JSON can hold it: spans as seconds, what JSON has no form for as text."""
    match thing:
        case None | bool() | int() | str():
            return thing
        case float():
            return thing if math.isfinite(thing) else str(thing)
        case timedelta():
            return thing.total_seconds()
        case bytes():
            return thing.decode(errors="backslashreplace")
        case datetime() | date() | time():
            return thing.isoformat()
        case Mapping():
            return {key if isinstance(key, str) else str(key): plain(item) for key, item in thing.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in thing]
        case _ if is_dataclass(thing) and not isinstance(thing, type):
            return {field.name: plain(getattr(thing, field.name)) for field in fields(thing)}
        case _:
            return str(thing)


def say(text: str) -> None:
    """A line for people on stderr."""
    sys.stderr.write(text + "\n")


def give_up(problem: str, *, as_json: bool = False, reason: str = "", code: int = UNUSABLE) -> NoReturn:
    """Ends the command with the problem on stderr, or as JSON on stdout."""
    if as_json:
        print_json({"error": {"reason": reason or "UNUSABLE", "message": problem}})
    else:
        say(f"sandboxd: {problem}")
    raise typer.Exit(code)


@contextmanager
def explained(*, as_json: bool = False) -> Iterator[None]:
    """Turns what can be expected to go wrong into a problem with an exit code; all else stays a traceback."""
    from sandboxd.accounts.tokens import TokenFileError
    from sandboxd.errors import SandboxdError
    from sandboxd.settings import SettingsError
    from sandboxd.supervisor.probing import IsolationInsufficient

    try:
        yield
    except SettingsError as error:
        give_up(str(error), as_json=as_json, reason="SETTINGS")
    except IsolationInsufficient as error:
        give_up(str(error), as_json=as_json, reason="ISOLATION_INSUFFICIENT")
    except TokenFileError as error:
        give_up(str(error), as_json=as_json, reason="TOKEN_FILE")
    except SandboxdError as error:
        give_up(str(error), as_json=as_json, reason=error.reason)
    except PermissionError as error:
        give_up(str(error), as_json=as_json, reason="PERMISSION")
    except Exception as error:
        reason = getattr(error, "reason", None)
        if isinstance(reason, str) and type(error).__module__ == "sandboxd_client.errors":
            give_up(str(error), as_json=as_json, reason=reason)
        raise
