"""What programs may rely on: the names of the package and of its classes' methods."""

import inspect
import subprocess
import sys

import sandboxd_client
from sandboxd_client import sync


def _methods(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_package_exports_what_it_says() -> None:
    assert [name for name in sandboxd_client.__all__ if not hasattr(sandboxd_client, name)] == []
    assert sandboxd_client.__all__ == sorted(sandboxd_client.__all__)


def test_methods_of_a_sandbox_are_pinned() -> None:
    assert _methods(sandboxd_client.Sandbox) == {
        "audit",
        "best_of",
        "branch",
        "branches",
        "cancel",
        "checkpoint",
        "checkpoints",
        "create_processor_template",
        "debug",
        "debug_session",
        "delete",
        "drop_checkpoint",
        "examples",
        "execute",
        "functions",
        "history",
        "id",
        "info",
        "query",
        "refresh",
        "rewind",
        "schema",
        "state",
        "stream",
    }


def test_methods_of_a_client_are_pinned() -> None:
    assert _methods(sandboxd_client.Client) == {
        "address",
        "analyze_data",
        "cancel",
        "capabilities",
        "close",
        "connect",
        "create_processor_template",
        "create_sandbox",
        "examples",
        "functions",
        "get_execution",
        "get_sandbox",
        "history",
        "list_sandboxes",
        "quick_execute",
        "statistics",
        "trace",
        "wait_until_ready",
        "watch",
    }


def test_blocking_face_has_every_method_of_the_async_classes() -> None:
    assert _methods(sync.Sandbox) == _methods(sandboxd_client.Sandbox)
    assert _methods(sync.Client) == _methods(sandboxd_client.Client)


def test_every_public_method_says_what_it_does() -> None:
    for cls in (sandboxd_client.Sandbox, sandboxd_client.Client, sandboxd_client.SandboxService):
        for name in _methods(cls):
            assert inspect.getdoc(getattr(cls, name)), f"{cls.__name__}.{name}"


def test_client_needs_neither_the_server_nor_numpy() -> None:
    code = (
        "import sys, sandboxd_client;"
        "print([name for name in ('sandboxd', 'numpy', 'pandas') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
