"""What is shipped for deployment: the systemd unit, the container, and the system calls both allow."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandboxd.isolation import syscall_table, syscalls
from sandboxd.settings import load_settings
from tests.support.server_process import Server
from tests.support.serving import serving_as_pid_1

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "sandboxd.service"
HIGHEST_EXPOSURE = 4.0


@pytest.mark.kernel
def test_server_that_is_pid_1_as_in_a_container_serves_queries_too() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a pid namespace can be made by root only")
    with serving_as_pid_1() as server:
        sandbox = server.create()
        answer = server.run(sandbox, "len(await db_query('SELECT * FROM users LIMIT 3'))")
        assert answer.result.value.integer == 3, answer.describe()
        server.delete(sandbox)
    assert server.process.returncode == 0


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    clean = os.environ | {"SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=clean)


def _installed_unit(directory: Path, text: str) -> Path:
    """The unit as it is, with a program that is there: `verify` wants to find it."""
    program = directory / "sandboxd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = directory / "sandboxd.service"
    unit.write_text(text.replace("/opt/sandboxd/bin/sandboxd", str(program)))
    return unit


def test_the_unit_has_no_mistake(tmp_path: Path) -> None:
    found = _run(_tool("systemd-analyze"), "verify", str(_installed_unit(tmp_path, UNIT.read_text())))
    assert (found.returncode, found.stderr) == (0, "")


def test_a_mistake_in_a_unit_is_seen_by_the_check(tmp_path: Path) -> None:
    unit = _installed_unit(tmp_path, UNIT.read_text().replace("@mount", "@no-such-group"))
    found = _run(_tool("systemd-analyze"), "verify", str(unit))
    assert "no-such-group" in found.stderr


def test_the_units_exposure_is_low() -> None:
    found = _run(_tool("systemd-analyze"), "security", "--offline=true", str(UNIT))
    overall = re.search(r"Overall exposure level for sandboxd.service: ([0-9.]+)", found.stdout)
    assert overall, found.stdout + found.stderr
    assert float(overall[1]) <= HIGHEST_EXPOSURE


def test_the_unit_gives_no_capability_and_survives_a_guest_out_of_memory() -> None:
    lines = UNIT.read_text().splitlines()
    for line in ("AmbientCapabilities=", "CapabilityBoundingSet=", "OOMPolicy=continue", "KillMode=mixed"):
        assert line in lines


def test_the_stop_time_of_unit_and_container_is_longer_than_the_drain() -> None:
    drain = load_settings(environment={}).drain_grace.total_seconds()
    unit = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert unit
    assert int(unit[1]) > drain + 5
    assert int(_compose()["stop_grace_period"].removesuffix("s")) > drain + 5


def test_the_shipped_settings_are_taken() -> None:
    settings = load_settings(config=DEPLOY / "sandboxd.toml", environment={})
    assert settings.minimum_grade == "FULL"


def test_the_dockerfile_lints_clean() -> None:
    found = _run(_tool("hadolint"), str(DEPLOY / "Dockerfile"))
    assert (found.returncode, found.stdout) == (0, "")


def test_the_compose_file_lints_clean() -> None:
    rules = "{extends: default, rules: {line-length: {max: 110}}}"
    found = _run(_tool("yamllint"), "--strict", "-d", rules, str(DEPLOY / "compose.yaml"))
    assert (found.returncode, found.stdout) == (0, "")


def _compose() -> dict[str, Any]:
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["sandboxd"]
    assert isinstance(found, dict)
    return found


def test_the_container_has_no_capability_no_root_and_a_read_only_system() -> None:
    service = _compose()
    assert service["cap_drop"] == ["ALL"]
    assert not {"cap_add", "privileged", "user", "pid", "devices"} & set(service)
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert "seccomp=unconfined" not in service["security_opt"]
    users = re.findall(r"^USER (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert users[-1] not in ("root", "0", "0:0")


def _allowed_in_container() -> set[str]:
    profile = json.loads((DEPLOY / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    return {name for rule in profile["syscalls"] for name in rule["names"]}


def test_the_container_allows_what_makes_guests_and_what_guests_may_call() -> None:
    allowed = _allowed_in_container()
    makes_guests = {name[4:].lower() for name in vars(syscalls) if name.startswith("SYS_")}
    assert makes_guests <= allowed
    calls = {name for _, group in syscall_table.ALLOWED for name in group}
    assert calls <= allowed


def test_the_container_refuses_what_only_exploits_miss() -> None:
    dangerous = {"bpf", "ptrace", "kexec_load", "init_module", "perf_event_open", "keyctl", "userfaultfd"}
    dangerous |= {"io_uring_setup", "open_by_handle_at", "process_vm_writev", "swapon", "reboot"}
    assert not dangerous & _allowed_in_container()


def test_the_health_check_succeeds_only_where_a_server_serves(watched: Server) -> None:
    def status(address: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "sandboxd.cli.healthy"],
            env=os.environ | {"SANDBOXD_ADDRESS": address},
            timeout=60,
            check=False,
            stderr=subprocess.DEVNULL,
        ).returncode

    assert status(watched.tcp) == 0
    assert status("127.0.0.1:1") == 1
