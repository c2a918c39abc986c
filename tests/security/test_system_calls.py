"""Attacks through system calls, made raw: the kernel's answer counts, whatever Python offers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxd.isolation.syscall_table import KILLED
from tests.support.control import unconfined, unconfined_status
from tests.support.serving import Answer, Serving

_RAW = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    words = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result = libc.syscall(ctypes.c_long(number), *words)
    return 'allowed' if result >= 0 else errno.errorcode[ctypes.get_errno()]
"""

_KILLED = {name: number for _, calls in KILLED for name, number in calls.items()}


def test_calls_no_data_program_makes_end_the_process(server: Serving) -> None:
    def attempt(name: str) -> Answer:
        return server.quick(f"{_RAW}print(call({_KILLED[name]}, 0, 0, 0, 0, 0, 0))")

    with ThreadPoolExecutor(max_workers=4) as attempts:
        answers = dict(zip(_KILLED, attempts.map(attempt, _KILLED), strict=True))
    survived = {
        name: answer.describe() for name, answer in answers.items() if answer.result.failure.signal != 31
    }
    assert not survived
    assert {answer.failure for answer in answers.values()} == {"FORBIDDEN_SYSTEM_CALL"}


def test_the_same_calls_are_answered_without_the_filter() -> None:
    shown = unconfined(
        f"{_RAW}print(call({_KILLED['ptrace']}, 0, 0, 0, 0), call({_KILLED['keyctl']}, 0, -3, 0))"
    )
    assert "allowed" in shown


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        pytest.param("call(57)", "EPERM", id="fork"),
        pytest.param("call(58)", "EPERM", id="vfork"),
        pytest.param("call(435, 0, 0)", "ENOSYS", id="clone3"),
        pytest.param("call(56, 0x10000000 | 0x11, 0)", "EPERM", id="clone_new_user_namespace"),
        pytest.param("call(56, 0x10000000 | 0x10000, 0)", "EPERM", id="thread_with_new_user_namespace"),
        pytest.param("call(56, 0x40000000 | 17, 0)", "EPERM", id="clone_new_network_namespace"),
        pytest.param("call(59, b'/bin/true', 0, 0)", "EPERM", id="execve"),
        pytest.param("call(322, -100, b'/bin/true', 0, 0, 0)", "EPERM", id="execveat"),
        pytest.param("call(62, os.getpid(), 0)", "EPERM", id="kill_itself"),
        pytest.param("call(62, -1, 9)", "EPERM", id="kill_everyone"),
        pytest.param("call(62, 1, 9)", "EPERM", id="kill_the_zygote"),
        pytest.param("call(200, 1, 9)", "EPERM", id="tkill"),
        pytest.param("call(234, 1, 1, 9)", "EPERM", id="tgkill"),
        pytest.param("call(129, 1, 9, 0)", "EPERM", id="rt_sigqueueinfo"),
        pytest.param("call(434, 1, 0)", "EPERM", id="pidfd_open"),
        pytest.param("call(424, 3, 9, 0, 0)", "EPERM", id="pidfd_send_signal"),
        pytest.param("call(105, 0)", "EPERM", id="setuid"),
        pytest.param("call(117, 0, 0, 0)", "EPERM", id="setresuid"),
        pytest.param("call(116, 0, 0)", "EPERM", id="setgroups"),
        pytest.param("call(126, 0, 0)", "EPERM", id="capset"),
        pytest.param("call(160, 7, b'\\xff' * 16)", "EPERM", id="setrlimit"),
        pytest.param("call(302, 0, 7, b'\\xff' * 16, 0)", "EPERM", id="prlimit_raise"),
        pytest.param("call(302, 1, 7, b'\\xff' * 16, 0)", "EPERM", id="prlimit_of_another"),
        pytest.param("call(157, 38, 0, 0, 0, 0)", "EPERM", id="prctl_no_new_privs"),
        pytest.param("call(157, 4, 1, 0, 0, 0)", "EPERM", id="prctl_dumpable"),
        pytest.param("call(157, 1, 0, 0, 0, 0)", "EPERM", id="prctl_parent_death_signal"),
        pytest.param("call(157, 36, 1, 0, 0, 0)", "EPERM", id="prctl_subreaper"),
        pytest.param("call(319, b'x', 0)", "EPERM", id="memfd_create"),
        pytest.param("call(29, 0, 4096, 0o1600)", "EPERM", id="shmget"),
        pytest.param("call(68, 0, 0o1600)", "EPERM", id="msgget"),
        pytest.param("call(64, 0, 1, 0o1600)", "EPERM", id="semget"),
        pytest.param("call(240, b'q', 66, 0o600, 0)", "EPERM", id="mq_open"),
        pytest.param("call(253)", "EPERM", id="inotify_init"),
        pytest.param("call(300, 0, 0)", "EPERM", id="fanotify_init"),
        pytest.param("call(444, 0, 0, 1)", "EPERM", id="landlock"),
        pytest.param("call(203, 0, 8, b'\\xff' * 8)", "EPERM", id="sched_setaffinity"),
        pytest.param("call(144, 0, 1, b'\\x01\\0\\0\\0')", "EPERM", id="sched_setscheduler"),
        pytest.param("call(141, 0, 0, -20)", "EPERM", id="setpriority"),
        pytest.param("call(133, b'/workspace/n', 0o600, 0)", "EPERM", id="mknod"),
        pytest.param("call(188, b'/workspace', b'user.x', b'y', 1, 0)", "EPERM", id="setxattr"),
        pytest.param("call(49, 3, 0, 0)", "EPERM", id="bind"),
        pytest.param("call(50, 3, 1)", "EPERM", id="listen"),
        pytest.param("call(275, 0, 0, 1, 0, 1, 0)", "EPERM", id="splice"),
        pytest.param("call(54, 3, 1, 26, b'x' * 16, 16)", "ENOPROTOOPT", id="attach_packet_filter"),
        pytest.param(
            "call(55, 3, 1, 77, b'x' * 16, b'\\x04\\0\\0\\0')", "ENOPROTOOPT", id="pidfd_of_the_server"
        ),
        pytest.param("call(72, 3, 8, 1)", "EPERM", id="signal_by_fcntl_setown"),
        pytest.param("call(72, 3, 10, 9)", "EPERM", id="signal_by_fcntl_setsig"),
        pytest.param("call(72, 1, 1031, 1 << 20)", "EPERM", id="larger_pipe"),
        pytest.param("call(16, 0, 0x5412, b'x')", "ENOTTY", id="type_into_a_terminal"),
        pytest.param("call(16, 1, 0xb701, 0)", "ENOTTY", id="namespace_by_ioctl"),
        pytest.param("call(9, 0, 1 << 20, 3, 0x21, -1, 0)", "ENOMEM", id="shared_anonymous_memory"),
        pytest.param("call(9, 0, 1 << 20, 3, 0x23, -1, 0)", "ENOMEM", id="shared_validate_memory"),
        pytest.param("call(452, -100, b'/workspace', 0o777, 0)", "EPERM", id="fchmodat2"),
        pytest.param("call(463, 1, 0)", "EPERM", id="newest_calls"),
        pytest.param("call(999)", "EPERM", id="unknown_call"),
    ],
)
def test_refused_calls_fail_and_the_session_lives_on(server: Serving, attempt: str, expected: str) -> None:
    answer = server.quick(f"{_RAW}print({attempt})")
    assert (answer.state, answer.stdout) == ("SUCCEEDED", expected), answer.describe()


def test_refused_calls_are_allowed_without_the_filter() -> None:
    shown = unconfined(
        f"{_RAW}import socket\n"
        "pair = socket.socketpair()\n"
        "buffer, size = ctypes.create_string_buffer(16), ctypes.c_int(4)\n"
        "print(call(55, pair[0].fileno(), 1, 77, buffer, ctypes.byref(size)))\n"  # SO_PEERPIDFD
        "print(call(72, pair[0].fileno(), 8, os.getpid()))\n"
        "print(call(9, 0, 1 << 20, 3, 0x21, -1, 0), call(319, b'x', 0), call(29, 0, 4096, 0o1600))"
    )
    assert set(shown.split()) == {"allowed"}


_MACHINE_CODE = """
import ctypes, mmap
area = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
area.write(bytes.fromhex({code!r}))
function = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(area)))
print(function())
"""
_INT80_GETPID = "b814000000cd80c3"  # mov eax,20; int 0x80; ret
_X32_GETPID = "b8270000400f05c3"  # mov eax,0x40000027; syscall; ret


@pytest.mark.parametrize("code", [_INT80_GETPID, _X32_GETPID], ids=["int80", "x32"])
def test_calls_of_another_abi_end_the_process(server: Serving, code: str) -> None:
    answer = server.quick(_MACHINE_CODE.format(code=code))
    assert answer.failure == "FORBIDDEN_SYSTEM_CALL", answer.describe()


def test_another_abi_is_open_without_the_filter() -> None:
    assert unconfined_status(_MACHINE_CODE.format(code=_INT80_GETPID)) == 0
