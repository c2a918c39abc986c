"""Attacks on the host's files and on the files of other guests."""

import os
from pathlib import Path

import pytest

from tests.support.control import unconfined
from tests.support.leftovers import wait_until
from tests.support.serving import Serving


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/etc/passwd", "/proc/self/environ", "/proc/1/environ", "/proc/self/mem", "/root/.ssh",
     "/var/lib", "/home", "/tmp", "/run", "/sys", "/dev/mem", "/dev/kmsg", "/dev/tty", "/dev/pts", "/dev/shm",
     "/dev/fuse", "/dev/net/tun", "/boot", "/proc"],
)  # fmt: skip
def test_the_hosts_files_are_not_there(server: Serving, path: str) -> None:
    code = f"import os\nprint(os.path.lexists({path!r}))\nos.stat({path!r})"
    answer = server.quick(code)
    assert answer.stdout == "False"
    assert "FileNotFoundError" in answer.result.failure.type_name
    assert (
        unconfined("import os; print(os.path.exists('/etc/passwd'), os.path.exists('/proc/self/mem'))")
        == "True True"
    )


def test_reading_as_pandas_does_finds_nothing(server: Serving) -> None:
    answer = server.quick("import pandas as pd\npd.read_csv('/etc/passwd')")
    assert "FileNotFoundError" in answer.result.failure.type_name
    assert unconfined("print(len(open('/etc/passwd').read()) > 0)") == "True"


@pytest.mark.parametrize(
    "path", ["/x", "/usr/x", "/dev/x", "/workspace/../x", "/empty/x", "/dev/null/x", "/lib/x"]
)
@pytest.mark.parametrize(
    "write",
    ["open({path!r}, 'w')", "os.mkdir({path!r})", "os.symlink('/etc', {path!r})",
     "os.link('/workspace/f', {path!r})",
     "os.rename('/workspace/f', {path!r})"],
    ids=["open", "mkdir", "symlink", "link", "rename"],
)  # fmt: skip
def test_nothing_but_the_workspace_is_writable(server: Serving, path: str, write: str) -> None:
    answer = server.quick(f"import os\nopen('/workspace/f', 'w').close()\n{write.format(path=path)}")
    assert answer.failure == "EXCEPTION", answer.describe()


def test_pythons_own_files_cannot_be_changed(server: Serving) -> None:
    code = (
        "import os, json, numpy\n"
        "for path in (json.__file__, numpy.__file__):\n"
        "    for attempt in (lambda: open(path, 'a'), lambda: os.chmod(path, 0o7), lambda: os.utime(path),\n"
        "                    lambda: os.unlink(path), lambda: os.truncate(path, 0)):\n"
        "        try: attempt(); print('done')\n"
        "        except OSError as error: print(error.errno)"
    )
    assert set(server.output(code).split()) <= {"1", "13", "30"}


def test_symlinks_and_dot_dot_stay_inside(server: Serving) -> None:
    code = (
        "import os\n"
        "os.symlink('/etc/shadow', '/workspace/s')\n"
        "os.symlink('../../../../../../etc/shadow', '/workspace/t')\n"
        "for path in ('/workspace/s', '/workspace/t', '/workspace/../../../etc/shadow'):\n"
        "    try: print(open(path).read())\n"
        "    except OSError as error: print(error.errno)\n"
        "fd = os.open('/', os.O_RDONLY | os.O_DIRECTORY)\n"
        "for _ in range(40): fd = os.open('..', os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)\n"
        "print('etc' in os.listdir(fd))"
    )
    assert server.output(code).split() == ["2", "2", "2", "False"]


def test_set_user_id_bits_and_programs_in_the_workspace_do_nothing(server: Serving) -> None:
    code = (
        "import os, ctypes\n"
        "open('/workspace/p', 'wb').write(b'#!/bin/sh\\n'); os.chmod('/workspace/p', 0o6777)\n"
        "try: os.execv('/workspace/p', ['p'])\n"
        "except OSError as error: print(error.errno)\n"
        "flags = os.statvfs('/workspace').f_flag\n"
        "print(bool(flags & os.ST_NOSUID), bool(flags & os.ST_NOEXEC))"
    )
    assert server.output(code).split() == ["1", "True", "True"]


def test_devices_are_four_harmless_ones(server: Serving) -> None:
    assert (
        server.output("import os; print(sorted(os.listdir('/dev')))")
        == "['null', 'random', 'urandom', 'zero']"
    )
    code = (
        "import os\n"
        "for name in ('zero', 'random', 'urandom'):\n"
        "    try: os.open('/dev/' + name, os.O_RDWR); print('open')\n"
        "    except OSError as error: print(error.errno)"
    )
    assert server.output(code).split() == ["13"] * 3


def test_workspaces_are_private_and_end_with_the_sandbox(server: Serving) -> None:
    first, second = server.create(), server.create()
    server.run(first, "open('/workspace/secret', 'w').write('mine')")
    assert server.run(second, "import os; print(os.listdir('/workspace'))").stdout == "[]"
    roots = [Path(f"/proc/{pid}/root/workspace/secret") for pid in server.guests_of(first)]
    assert roots
    assert all(root.exists() for root in roots)
    server.delete(first)
    wait_until(lambda: not any(root.exists() for root in roots), seconds=5, what="the files are gone")
    assert not os.path.exists("/workspace/secret")
    server.delete(second)


def test_the_servers_own_code_and_packages_are_not_in_the_root(server: Serving) -> None:
    code = (
        "import importlib.util\n"
        "names = ['sandboxd.app', 'sandboxd.rpc.server', 'sandboxd.settings', 'sandboxd.supervisor.pool',\n"
        "         'grpc', 'sqlalchemy', 'sandboxd_api', 'pip', 'pytest']\n"
        "for name in names:\n"
        "    try: found = importlib.util.find_spec(name)\n"
        "    except ModuleNotFoundError: found = None\n"
        "    if found and found.origin: print(name)"
    )
    assert server.output(code) == ""
