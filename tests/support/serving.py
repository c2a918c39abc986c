"""A real server in a process of its own, and the few calls that tests make on it."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import grpc
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sandboxd_api.v1 import execution_pb2, execution_service_pb2_grpc, sandbox_pb2, sandbox_service_pb2_grpc
from sandboxd_api.v1 import execution_service_pb2 as execution_service
from sandboxd_api.v1 import sandbox_service_pb2 as sandbox_service

from tests.support.leftovers import wait_until

UNRESTRICTED = sandbox_pb2.LanguagePolicy(mode=sandbox_pb2.LanguagePolicy.MODE_UNRESTRICTED)
_STOP_SECONDS = 20


class ServerRefused(Exception):
    """The server did not start and said why."""


@dataclasses.dataclass
class Serving:
    """A running server, with language rules switched off for every sandbox unless asked otherwise."""

    process: subprocess.Popen[str]
    address: str
    data_directory: Path
    token: str
    channel: grpc.Channel
    sandboxes: sandbox_service_pb2_grpc.SandboxServiceStub
    executions: execution_service_pb2_grpc.ExecutionServiceStub

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call needs."""
        return (("authorization", f"Bearer {self.token}"),)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    @property
    def zygote_pid(self) -> int:
        """Process id of the zygote proper: the one that has guests, or none yet, for children."""
        return zygote_of(self.pid)

    def create(self, *, policy: Any = UNRESTRICTED, debugging: bool = False, **limits: Any) -> str:
        """A new sandbox's id."""
        spec = spec_of(policy=policy, debugging=debugging, **limits)
        request = sandbox_service.CreateSandboxRequest(spec=spec)
        return str(self.sandboxes.CreateSandbox(request, metadata=self.metadata, timeout=30).sandbox.id)

    def delete(self, sandbox_id: str) -> None:
        """Deletes a sandbox."""
        request = sandbox_service.DeleteSandboxRequest(sandbox_id=sandbox_id)
        self.sandboxes.DeleteSandbox(request, metadata=self.metadata, timeout=30)

    def run(self, sandbox_id: str, code: str, *, seconds: float | None = None) -> "Answer":
        """Runs code in a sandbox."""
        request = execution_service.ExecuteRequest(
            sandbox_id=sandbox_id, code=code, options=options_of(seconds)
        )
        return Answer(self.executions.Execute(request, metadata=self.metadata, timeout=60).execution)

    def guests_of(self, sandbox_id: str) -> list[int]:
        """Process ids of a sandbox's guest and of its kept states: found by a file in their workspace."""
        mark = f"mark-{uuid.uuid4().hex}"
        assert self.run(sandbox_id, f"open('/workspace/{mark}', 'w').close()").state == "SUCCEEDED"
        below = descendants(self.zygote_pid)
        return [pid for pid in below if os.path.exists(f"/proc/{pid}/root/workspace/{mark}")]

    def start(self, sandbox_id: str, code: str, *, seconds: float | None = None) -> Any:
        """Runs code without waiting: a grpc future of the response."""
        request = execution_service.ExecuteRequest(
            sandbox_id=sandbox_id, code=code, options=options_of(seconds)
        )
        return self.executions.Execute.future(request, metadata=self.metadata, timeout=60)

    def quick(
        self, code: str, *, policy: Any = UNRESTRICTED, seconds: float | None = None, **spec: Any
    ) -> "Answer":
        """Runs code in a sandbox of its own."""
        request = execution_service.QuickExecuteRequest(
            code=code, spec=spec_of(policy=policy, **spec), options=options_of(seconds)
        )
        return Answer(self.executions.QuickExecute(request, metadata=self.metadata, timeout=60).execution)

    def output(self, code: str, **arguments: Any) -> str:
        """What code prints that must succeed, in a sandbox of its own."""
        answer = self.quick(code, **arguments)
        assert answer.state == "SUCCEEDED", answer.describe()
        return answer.stdout


class Answer:
    """An execution's outcome, for short asserts."""

    def __init__(self, execution: execution_pb2.Execution) -> None:
        self.execution = execution
        self.result = execution.result

    @property
    def state(self) -> str:
        """SUCCEEDED, FAILED ..."""
        return str(execution_pb2.Execution.State.Name(self.result.state)).removeprefix("STATE_")

    @property
    def failure(self) -> str:
        """Kind of the failure: EXCEPTION, CRASHED ..."""
        return str(execution_pb2.Failure.Kind.Name(self.result.failure.kind)).removeprefix("KIND_")

    @property
    def session(self) -> str:
        """KEPT, LOST, RESTORED, ENDED."""
        return str(execution_pb2.SessionOutcome.State.Name(self.result.session.state)).removeprefix("STATE_")

    @property
    def limit(self) -> str:
        """Name of the limit in the receipt; UNSPECIFIED without one."""
        name = str(execution_pb2.LimitReceipt.Limit.Name(self.result.limit_receipt.limit))
        return name.removeprefix("LIMIT_")

    @property
    def stdout(self) -> str:
        """Standard output as text, trailing space removed."""
        return self.result.stdout.data.decode(errors="replace").strip()

    @property
    def wall_seconds(self) -> float:
        """Wall-clock time of the run."""
        return float(self.result.usage.wall_time.ToNanoseconds() / 1e9)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the run."""
        return float(self.result.usage.cpu_time.ToNanoseconds() / 1e9)

    def describe(self) -> str:
        """For the message of an assert."""
        return f"{self.state} {self.failure} {self.result.failure.message}\n{self.result.failure.traceback}"


def spec_of(*, policy: Any = UNRESTRICTED, debugging: bool = False, **limits: Any) -> sandbox_pb2.SandboxSpec:
    """A specification; durations are given in seconds."""
    message = sandbox_pb2.Limits()
    for name, value in limits.items():
        if name in ("execution_timeout", "idle_timeout"):
            getattr(message, name).CopyFrom(duration(value))
        else:
            setattr(message, name, value)
    return sandbox_pb2.SandboxSpec(language_policy=policy, limits=message, enable_debugging=debugging)


def options_of(seconds: float | None) -> execution_pb2.ExecutionOptions:
    """Options with a time limit."""
    return execution_pb2.ExecutionOptions(timeout=None if seconds is None else duration(seconds))


def duration(seconds: float) -> duration_pb2.Duration:
    """A length of time."""
    message = duration_pb2.Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


@contextlib.contextmanager
def serving(
    *,
    fault_step: str = "",
    uid: int = 0,
    readable: bool = False,
    environment: dict[str, str] | None = None,
    log: int | IO[bytes] | None = None,
    disk_bytes: int = 0,
    under: Sequence[str] = (),
    **settings: Any,
) -> Iterator[Serving]:
    """A server on a free port with a data directory of its own; SIGTERM at the end, and nothing is left.

    As user `uid`, where it is given. With `readable` every user may reach Python as the server sees it.
    Its log goes to `log`; with `disk_bytes` its data lie on a disk of that size that only it sees;
    `under` is a command that runs it.
    """
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as directory:
        if uid:
            os.chown(directory, uid, uid)
        given = {"port": 0, "data_directory": f"{directory}/data", "pool_size": 2, **settings}
        asked = {
            "settings": given,
            "fault_step": fault_step,
            "uid": uid,
            "readable": readable or bool(uid),
            "disk_bytes": disk_bytes,
        }
        process = _start(asked, environment=environment, log=log, under=under)
        try:
            yield _connect(process, Path(given["data_directory"]))
        finally:
            _stop(process)


def _start(
    asked: dict[str, Any],
    *,
    environment: dict[str, str] | None,
    log: int | IO[bytes] | None,
    under: Sequence[str],
) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [*under, sys.executable, "-m", "tests.support.server_main", json.dumps(asked)],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=root,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": root, **(environment or {})},
    )


def _connect(process: subprocess.Popen[str], directory: Path) -> Serving:
    assert process.stdout is not None
    line = process.stdout.readline()
    said = json.loads(line) if line else {"refused": f"the server ended with {process.wait()}"}
    if "refused" in said:
        process.wait(timeout=_STOP_SECONDS)
        raise ServerRefused(said["refused"])
    channel = grpc.insecure_channel(said["tcp"], [("grpc.max_receive_message_length", 128 * 1024 * 1024)])
    return Serving(
        process=process,
        address=said["tcp"],
        data_directory=directory,
        token=said["token"],
        channel=channel,
        sandboxes=sandbox_service_pb2_grpc.SandboxServiceStub(channel),
        executions=execution_service_pb2_grpc.ExecutionServiceStub(channel),
    )


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()


@contextlib.contextmanager
def serving_as_pid_1(script: str = "true", **settings: Any) -> Iterator[Serving]:
    """A server that is pid 1 of a namespace of its own, as in a container; `script` runs before it there."""
    command = f'{script} && exec "$@"'
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", command, "sh"]
    with serving(under=alone, **settings) as server:
        try:
            yield server
        finally:
            for inner in children(server.process.pid):
                os.kill(inner, signal.SIGTERM)  # unshare(1) itself does not pass it on
            server.process.wait(_STOP_SECONDS)


def health_of(server: Serving) -> str:
    """SERVING or NOT_SERVING, as anyone is told."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(number) for number in text.split()]


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def zygote_of(server: int) -> int:
    """Process id of the zygote of process `server` that has guests for children."""
    outer = next(pid for pid in children(server) if is_zygote(pid))
    inner = [pid for pid in children(outer) if is_zygote(pid)]
    return inner[0] if inner and namespace(inner[0], "pid") != namespace(server, "pid") else outer


def is_zygote(pid: int) -> bool:
    """Whether a process is a zygote, or a guest that has not been told otherwise."""
    with contextlib.suppress(OSError):
        return b"sandboxd.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def namespace(pid: int, kind: str) -> str:
    """Identity of a namespace of a process."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def wait_for_pool(server: Serving, *, seconds: float = 10) -> None:
    """Waits until the pool is full again."""
    zygote = server.zygote_pid
    wait_until(lambda: len(children(zygote)) >= 2, seconds=seconds, what="the pool is full")
