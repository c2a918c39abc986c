"""`sandboxd user delete`: what is kept of a user goes, what is kept of others stays."""

import json
import subprocess
import sys
from pathlib import Path

from sandboxd_api.v1 import execution_service_pb2 as execution_service
from sandboxd_api.v1 import sandbox_service_pb2 as sandbox_service

from tests.support.serving import Serving, serving

_SECRET = "a word of ada, and of nobody else"


def _delete(data: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sandboxd", "user", "delete", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "", "SANDBOXD_DATA_DIRECTORY": str(data)},
    )


def _run_as(server: Serving, user_id: str, code: str) -> None:
    made = server.sandboxes.CreateSandbox(
        sandbox_service.CreateSandboxRequest(user_id=user_id), metadata=server.metadata, timeout=30
    )
    assert server.run(made.sandbox.id, code).state == "SUCCEEDED"
    server.delete(made.sandbox.id)


def _history_of(server: Serving, user_id: str) -> int:
    request = execution_service.ListExecutionsRequest(user_id=user_id)
    return len(server.executions.ListExecutions(request, metadata=server.metadata, timeout=30).executions)


def test_deleted_user_leaves_nothing_and_others_stay(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data_directory=str(data)) as server:
        _run_as(server, "ada", f"print({_SECRET!r})\nlen(await db_query('SELECT * FROM users'))")
        _run_as(server, "bob", "1")
        assert _history_of(server, "ada") == 1
        refused = _delete(data, "ada")
        assert json.loads(refused.stdout)["error"]["reason"] == "STORE_IN_USE"
    kept = [path for path in (data / "history").rglob("*") if path.is_file()]
    assert any(_SECRET.encode() in path.read_bytes() for path in kept)  # the control
    done = _delete(data, "ada")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["executions"], counts["sandboxes"], counts["queries"]) == (1, 1, 1)
    kept = [path for path in (data / "history").rglob("*") if path.is_file()]
    assert not any(_SECRET.encode() in path.read_bytes() for path in kept)
    with serving(data_directory=str(data)) as server:
        assert (_history_of(server, "ada"), _history_of(server, "bob")) == (0, 1)


def test_owner_narrows_the_deletion_and_leaves_tokens(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data_directory=str(data)) as server:
        _run_as(server, "ada", "1")
    nothing = json.loads(_delete(data, "ada", "--owner", "somebody").stdout)
    assert nothing["executions"] == 0
    some = json.loads(_delete(data, "ada", "--owner", "local").stdout)
    assert (some["executions"], some["tokens"]) == (1, 0)


def test_deleted_principal_loses_its_tokens(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data_directory=str(data)) as server:
        _run_as(server, "ada", "1")
    gone = json.loads(_delete(data, "local").stdout)
    assert (gone["executions"], gone["tokens"]) == (1, 1)
    assert json.loads((data / "tokens.json").read_text())["tokens"] == []


def test_no_history_is_said_and_none_is_made(tmp_path: Path) -> None:
    done = _delete(tmp_path / "nothing", "ada")
    assert json.loads(done.stdout)["error"]["reason"] == "NO_HISTORY"
    assert not (tmp_path / "nothing").exists()
