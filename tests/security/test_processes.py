"""Attacks on other processes, on identity and on what the kernel holds a process to."""

import os
from pathlib import Path

import pytest

from tests.support.control import unconfined
from tests.support.serving import Serving


def test_a_fork_is_refused_and_a_thread_is_not(server: Serving) -> None:
    code = (
        "import os, threading\n"
        "try: os.fork(); print('forked')\n"
        "except OSError as error: print(error.errno)\n"
        "t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()"
    )
    assert server.output(code).split() == ["1", "thread"]
    assert "0" in unconfined(
        "import os\npid = os.fork()\nif not pid: os._exit(0)\nprint(os.waitpid(pid, 0)[1])"
    )


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run(['/bin/true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "multiprocessing.get_context('fork').Process(target=print).start()",
    ],
)
def test_no_program_and_no_process_is_started(server: Serving, start: str) -> None:
    answer = server.quick(f"import os, subprocess, multiprocessing\n{start}")
    assert answer.failure == "EXCEPTION", answer.describe()


def test_only_standard_streams_and_the_channel_are_open(server: Serving) -> None:
    code = (
        "import os\n"
        "found = []\n"
        "for fd in range(4096):\n"
        "    try: os.fstat(fd); found.append(fd)\n"
        "    except OSError: pass\n"
        "print(found)"
    )
    assert server.output(code) == "[0, 1, 2, 3]"
    leaking = "import os\nfd = os.open('/etc/passwd', 0); os.set_inheritable(fd, True)\n"
    assert unconfined(leaking + code) != "[0, 1, 2]"


def test_a_guest_has_no_identity_and_no_capability(server: Serving) -> None:
    sandbox = server.create()
    guests = server.guests_of(sandbox)
    assert guests
    for pid in guests:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert all(100_000 < int(uid) < 165_536 for uid in status["Uid"].split())
        assert all(100_000 < int(gid) < 165_536 for gid in status["Gid"].split())
        assert status["Groups"].strip() == ""
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[capabilities], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
    server.delete(sandbox)


def test_every_guest_has_a_user_id_of_its_own(server: Serving) -> None:
    sandboxes = [server.create() for _ in range(4)]
    ids = [server.run(sandbox, "import os; print(os.getuid())").stdout for sandbox in sandboxes]
    assert len(set(ids)) == len(ids)
    for sandbox in sandboxes:
        server.delete(sandbox)


def test_a_guest_shares_no_namespace_with_the_server(server: Serving) -> None:
    sandbox = server.create()
    for pid in server.guests_of(sandbox):
        for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user"):
            ours = os.readlink(f"/proc/{server.pid}/ns/{kind}")
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != ours, kind
    server.delete(sandbox)


def test_two_guests_share_no_namespace_but_those_of_the_family(server: Serving) -> None:
    sandboxes = [server.create(), server.create()]
    guests = [server.guests_of(sandbox)[0] for sandbox in sandboxes]
    for kind in ("mnt", "net", "ipc", "uts", "cgroup"):
        assert len({os.readlink(f"/proc/{pid}/ns/{kind}") for pid in guests}) == 2, kind
    for sandbox in sandboxes:
        server.delete(sandbox)


def test_the_machine_name_is_not_told(server: Serving) -> None:
    assert server.output("import socket; print(socket.gethostname())") == "sandbox"


def test_no_secret_of_the_server_is_in_a_guest() -> None:
    """In the server's environment and memory there is a token; in the guest's memory there is none."""
    from tests.support.serving import serving

    secret = "planted-" + os.urandom(12).hex()
    with serving(environment={"PLANTED": secret}) as server:
        planted = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert secret.encode() in planted
        sandbox = server.create()
        assert server.run(sandbox, "import os; print(dict(os.environ))").stdout.count("=") == 0
        for pid in server.guests_of(sandbox):
            memory = _readable_memory(pid)
            assert len(memory) > 1 << 20
            for needle in (secret, server.token, str(server.data_directory)):
                assert needle.encode() not in memory
            assert secret.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def _readable_memory(pid: int) -> bytes:
    """What root reads of a process: the guest's whole heap, to look for what must not be there."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in area.split("-"))
                memory.seek(start)
                try:
                    found.append(memory.read(end - start))
                except OSError:
                    continue
    return b"".join(found)
