"""The command line, as a person and as a program use it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from sandboxd.cli.main import app
from tests.support.server_process import Server


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def _run(*arguments: str, stdin: str = "", **environment: str) -> Outcome:
    """The command in this process: most of the time of a fresh one goes into imports."""
    clean = {name: None for name in os.environ if name.startswith("SANDBOXD_")}
    found = CliRunner().invoke(app, list(arguments), input=stdin, env=clean | environment)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return Outcome(returncode=found.exit_code, stdout=found.stdout, stderr=found.stderr)


def _run_process(*arguments: str, stdin: str = "", **environment: str) -> Outcome:
    """The command as a person starts it; for those that make a server."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOXD_")}
    found = subprocess.run(
        [sys.executable, "-m", "sandboxd", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=clean | environment,
        timeout=80,
        check=False,
    )
    return Outcome(returncode=found.returncode, stdout=found.stdout, stderr=found.stderr)


def _at(server: Server) -> dict[str, str]:
    return {"SANDBOXD_ADDRESS": server.tcp, "SANDBOXD_TOKEN": server.token}


def test_help_names_the_commands() -> None:
    found = _run("--help")
    assert found.returncode == 0
    for command in ("serve", "doctor", "exec", "token"):
        assert command in found.stdout


def test_exec_runs_standard_input_on_a_server(server: Server) -> None:
    found = _run("exec", stdin="print('hi')\n40 + 2\n", **_at(server))
    assert (found.returncode, found.stdout, found.stderr) == (0, "hi\n42\n", "")


def test_exec_of_failing_code_shows_the_traceback_and_exits_1(server: Server, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('before')\ndef f():\n    return 1 / 0\nf()\n")
    found = _run("exec", str(program), **_at(server))
    assert (found.returncode, found.stdout) == (1, "before\n")
    assert "return 1 / 0" in found.stderr
    assert "ZeroDivisionError: division by zero" in found.stderr


def test_exec_explains_a_blocked_import(server: Server) -> None:
    found = _run("exec", stdin="import subprocess", **_at(server))
    assert found.returncode == 1
    assert "line 1" in found.stderr
    assert "subprocess" in found.stderr


def test_exec_names_the_limit_that_ended_the_code(server: Server) -> None:
    found = _run("exec", "--timeout", "0.3", stdin="while True: pass", **_at(server))
    assert found.returncode == 1
    assert "limit: " in found.stderr


def test_exec_prints_json_for_programs(server: Server) -> None:
    code = "print('x')\n{1: (2.5, None), 'a': {3}, (1, 2): b'\\xff', 'big': 2**70}"
    found = _run("exec", "--json", stdin=code, **_at(server))
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["status"] == "completed"
    assert result["stdout"] == "x\n"
    assert result["result"]["1"] == [2.5, None]
    assert result["result"]["big"] == 2**70
    assert result["usage"]["wall_time"] >= 0
    failed = _run("exec", "--json", stdin="1 / 0", **_at(server))
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["type"] == "ZeroDivisionError"


def test_exec_without_a_server_uses_one_of_its_own() -> None:
    found = _run_process("exec", stdin="1 + 1", SANDBOXD_ADDRESS="127.0.0.1:1")
    assert (found.returncode, found.stdout) == (0, "2\n")
    assert "no server at 127.0.0.1:1" in found.stderr


def test_exec_at_an_address_where_nobody_listens_says_what_to_do() -> None:
    found = _run("exec", "--address", "127.0.0.1:1", stdin="1")
    assert found.returncode == 2
    assert "sandboxd serve" in found.stderr
    assert "Traceback" not in found.stderr
    as_json = _run("exec", "--address", "127.0.0.1:1", "--json", stdin="1")
    assert json.loads(as_json.stdout)["error"]["reason"] == "UNREACHABLE"


def test_exec_of_a_missing_file_says_so() -> None:
    found = _run("exec", "/no/such/file.py")
    assert (found.returncode, found.stderr) == (2, "sandboxd: /no/such/file.py: No such file or directory\n")


def test_exec_with_a_wrong_token_says_so(server: Server) -> None:
    found = _run("exec", stdin="1", SANDBOXD_ADDRESS=server.tcp, SANDBOXD_TOKEN="sbt_wrong")
    assert found.returncode == 2
    assert "token" in found.stderr
    assert "Traceback" not in found.stderr


def test_exec_in_a_sandbox_keeps_its_session(server: Server) -> None:
    found = _run("exec", "--sandbox", "sbx_aaaaaaaaaaaaaaaaaaaaaaaaaa", stdin="1", **_at(server))
    assert found.returncode == 2
    assert "sbx_aaaa" in found.stderr


def test_doctor_tells_layers_grade_and_fixes(tmp_path: Path) -> None:
    found = _run("doctor", "--json", SANDBOXD_DATA_DIRECTORY=str(tmp_path), SANDBOXD_PORT="0")
    report = json.loads(found.stdout)
    assert report["grade"] in ("FULL", "NO_CGROUP", "NO_NAMESPACES")
    assert found.returncode == (0 if report["reaches_floor"] else 1)
    assert "seccomp" in [layer["name"] for layer in report["layers"]]
    assert all(layer["fix"] for layer in report["layers"] if not layer["ok"])
    text = _run("doctor", SANDBOXD_DATA_DIRECTORY=str(tmp_path), SANDBOXD_PORT="0")
    assert report["grade"] in text.stdout


def test_doctor_finds_a_token_that_others_can_read(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sbt_x\n")
    token.chmod(0o644)
    found = _run("doctor", SANDBOXD_DATA_DIRECTORY=str(tmp_path), SANDBOXD_PORT="0")
    assert found.returncode == 1
    assert f"chmod 600 {token}" in found.stdout


def test_doctor_names_a_history_that_was_set_aside(tmp_path: Path) -> None:
    history = tmp_path / "history"
    history.mkdir()
    name = "history.db.damaged-20260101T000000.000000Z"
    (history / name).write_bytes(b"x")
    (history / "other.Z").write_bytes(b"x")
    found = _run("doctor", "--json", SANDBOXD_DATA_DIRECTORY=str(tmp_path), SANDBOXD_PORT="0")
    [check] = [item for item in json.loads(found.stdout)["checks"] if item["name"] == "history"]
    assert check["ok"]
    assert name in check["detail"]
    assert "other.Z" not in check["detail"]


def test_doctor_leaves_no_control_group_behind(tmp_path: Path) -> None:
    def groups() -> set[Path]:
        return set(Path("/sys/fs/cgroup").glob("**/*sandboxd*"))

    before = groups()
    _run("doctor", "--json", SANDBOXD_DATA_DIRECTORY=str(tmp_path), SANDBOXD_PORT="0")
    assert groups() - before == set()


def test_serve_with_an_unknown_setting_names_it() -> None:
    found = _run_process("serve", SANDBOXD_PROT="1")
    assert found.returncode == 2
    assert "prot: no such setting" in found.stderr


def test_serve_on_a_taken_port_says_so(server: Server, tmp_path: Path) -> None:
    port = server.tcp.rpartition(":")[2]
    found = _run_process("serve", "--port", port, "--data-directory", str(tmp_path))
    assert found.returncode == 2
    assert "another server" in found.stderr
    assert "Traceback" not in found.stderr


def test_token_tells_where_it_is(tmp_path: Path) -> None:
    found = _run("token", "--json", SANDBOXD_DATA_DIRECTORY=str(tmp_path))
    assert json.loads(found.stdout) == {"token_file": str(tmp_path / "token"), "exists": False}
    missing = _run("token", "--show", SANDBOXD_DATA_DIRECTORY=str(tmp_path))
    assert missing.returncode == 2
    assert "first start" in missing.stderr


def test_tokens_are_made_used_listed_and_revoked_while_the_server_runs(server: Server) -> None:
    place = {"SANDBOXD_DATA_DIRECTORY": str(server.token_file.parent)}
    made = json.loads(
        _run("token", "create", "alice", "--days", "1", "--label", "laptop", "--json", **place).stdout
    )
    caller = {"SANDBOXD_ADDRESS": server.tcp, "SANDBOXD_TOKEN": made["token"]}
    assert _run("exec", stdin="1", **caller).returncode == 0
    listed = json.loads(_run("token", "list", "--json", **place).stdout)
    (found,) = [item for item in listed if item["id"] == made["id"]]
    assert (found["principal"], found["role"], found["label"]) == ("alice", "user", "laptop")
    assert made["token"] not in str(listed)
    assert "alice" in _run("token", "list", **place).stdout
    assert _run("token", "revoke", made["id"], **place).returncode == 0
    refused = _run("exec", stdin="1", **caller)
    assert refused.returncode == 2
    assert "token" in refused.stderr
    assert _run("token", "revoke", made["id"], **place).returncode == 2


def test_revoking_the_token_of_the_token_file_removes_the_file(tmp_path: Path) -> None:
    place = {"SANDBOXD_DATA_DIRECTORY": str(tmp_path)}
    made = json.loads(_run("token", "create", "local", "--role", "service", "--json", **place).stdout)
    token_file = tmp_path / "token"
    token_file.write_text(made["token"])
    said = _run("token", "revoke", made["id"], **place)
    assert "was removed" in said.stderr
    assert not token_file.exists()


def test_debug_lists_steps_with_what_changed(server: Server) -> None:
    found = _run("debug", "-", stdin="a = 1\nb = a + 1\nb\n", **_at(server))
    assert found.returncode == 0
    assert "b = a + 1" in found.stdout
    assert "a=1" in found.stdout
    assert "completed" in found.stderr
    as_json = _run("debug", "-", "--json", stdin="a = 1\na / 0\n", **_at(server))
    assert as_json.returncode == 1
    *steps, last = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [step["line"] for step in steps][:2] == [1, 2]
    assert last["error"]["type"] == "ZeroDivisionError"


def test_debug_takes_commands_at_a_breakpoint(server: Server, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("a = 1\nb = a + 1\nb\n")
    commands = "p a + 40\nn\nwhen b\nnonsense\nw\nc\n"
    found = _run("debug", str(program), "--break", "2", stdin=commands, **_at(server))
    assert found.returncode == 0, found.stderr
    assert "breakpoint in <module>" in found.stdout
    assert "41" in found.stdout
    assert "unbound -> 2" in found.stdout
    assert "go on to the next breakpoint" in found.stdout  # the help, for a command it does not know
    assert "no command nonsense" in found.stdout


def test_debug_says_where_no_breakpoint_can_be_and_ends_a_run_quietly(server: Server, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("a = 1\na / 0\n")
    found = _run("debug", str(program), "--break", "99", stdin="q\n", **_at(server))
    assert "breakpoint at 99: no code is on this line or after it" in found.stdout
    assert "removed the tracer" not in found.stderr  # nobody did


def test_debug_of_a_syntax_error_misses_no_steps(server: Server) -> None:
    found = _run("debug", "-", stdin="if True\n", **_at(server))
    assert "SyntaxError" in found.stderr
    assert "missing" not in found.stderr


def test_version_is_told() -> None:
    assert _run("--version").stdout.startswith("sandboxd 0.")
