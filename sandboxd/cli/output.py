"""How commands speak: facts on stdout (as JSON where asked), problems on stderr, exit codes."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

FAILED = 1
"""What was asked for did not succeed: user code failed, the machine lacks something."""
UNUSABLE = 2
"""The command could not be carried out: settings, connection, permissions."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(thing: Any) -> None:
    """One JSON document on stdout, on one line."""
    sys.stdout.write(json.dumps(thing, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


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
    from sandboxd.settings import SettingsError
    from sandboxd.supervisor.probing import IsolationInsufficient

    try:
        yield
    except SettingsError as error:
        give_up(str(error), as_json=as_json, reason="SETTINGS")
    except IsolationInsufficient as error:
        give_up(str(error), as_json=as_json, reason="ISOLATION_INSUFFICIENT")
    except PermissionError as error:
        give_up(str(error), as_json=as_json, reason="PERMISSION")
    except Exception as error:
        reason = getattr(error, "reason", None)
        if isinstance(reason, str) and type(error).__module__ == "sandboxd_client.errors":
            give_up(str(error), as_json=as_json, reason=reason)
        raise
