"""The filter program, run by a small interpreter: each call is decided as the table says."""

import errno
import struct

import pytest

from sandboxd.isolation import seccomp
from sandboxd.isolation.syscall_table import ALLOWED, ARGUMENT_RULES, KILLED, OWN_ROOT_ONLY

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
ALLOW, KILL, NOTIFY = 0x7FFF0000, 0x80000000, 0x7FC00000
_MOST_NUMBERS = 200


def refused(code: int) -> int:
    return 0x00050000 | code


def decide(program: bytes, number: int, *arguments: int, arch: int = X86_64) -> int:
    """Runs the program over one seccomp_data as the kernel does (Documentation/networking/filter.rst)."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number, arch, 0, *(value & (2**64 - 1) for value in padded))
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, position = 0, 0
    while True:
        code, if_true, if_false, value = instructions[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:
                accumulator &= value
            case 0x15:
                position += if_true if accumulator == value else if_false
            case 0x35:
                position += if_true if accumulator >= value else if_false
            case 0x45:
                position += if_true if accumulator & value else if_false
            case 0x05:
                position += value
            case 0x06:
                return value
            case _:
                raise AssertionError(f"instruction {code:#x} is not known")


@pytest.fixture(params=[True, False], ids=["own_root", "hosts_root"])
def own_root(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def program(own_root: bool) -> bytes:
    return seccomp.assemble(fork_gate=True, own_root=own_root)


def test_every_number_is_decided_as_the_table_says(program: bytes, own_root: bool) -> None:
    allowed = {number for _, calls in ALLOWED for number in calls.values()}
    if not own_root:
        allowed -= set(OWN_ROOT_ONLY)
    killed = {number for _, calls in KILLED for number in calls.values()}
    by_argument = {number for _, number, _ in ARGUMENT_RULES}
    for number in set(range(700)) - by_argument:
        expected = ALLOW if number in allowed else KILL if number in killed else refused(errno.EPERM)
        assert decide(program, number) == expected, number


@pytest.mark.parametrize("number", [0, 39, 57, 59, 0x40000000, 0x40000027, 0xFFFFFFFF])
@pytest.mark.parametrize("arch", [I386, AARCH64, 0, 0xFFFFFFFF])
def test_foreign_machines_are_killed_whatever_they_call(program: bytes, number: int, arch: int) -> None:
    assert decide(program, number, arch=arch) == KILL


def test_x32_numbers_are_killed(program: bytes) -> None:
    for number in (0x40000000, 0x40000001, 0x40000200, 0x7FFFFFFF, 0xFFFFFFFF):
        assert decide(program, number) == KILL


_THREAD = 0x10000 | 0x100 | 0x200 | 0x400 | 0x800


@pytest.mark.parametrize(
    ("number", "arguments", "expected"),
    [
        pytest.param(9, (0, 1, 3, 0x22), ALLOW, id="private_memory"),
        pytest.param(9, (0, 1, 3, 0x21), refused(errno.ENOMEM), id="shared_memory"),
        pytest.param(9, (0, 1, 3, 0x23), refused(errno.ENOMEM), id="shared_validate_memory"),
        pytest.param(9, (0, 1, 3, 0x01), ALLOW, id="shared_file"),
        pytest.param(56, (_THREAD,), ALLOW, id="thread"),
        pytest.param(56, (_THREAD | 0x10000000,), refused(errno.EPERM), id="thread_in_new_user_namespace"),
        pytest.param(56, (17,), NOTIFY, id="fork"),
        pytest.param(56, (17 | 0x80,), refused(errno.EPERM), id="fork_in_new_time_namespace"),
        pytest.param(56, (17 | 0x20000,), refused(errno.EPERM), id="fork_in_new_mount_namespace"),
        pytest.param(56, (2**32 | 17,), NOTIFY, id="fork_with_high_bits"),
        pytest.param(435, (0, 0), refused(errno.ENOSYS), id="clone3"),
        pytest.param(41, (2, 1, 0), refused(errno.EAFNOSUPPORT), id="inet"),
        pytest.param(41, (16, 3, 0), refused(errno.EAFNOSUPPORT), id="netlink"),
        pytest.param(53, (2, 1, 0), refused(errno.EAFNOSUPPORT), id="inet_pair"),
        pytest.param(53, (1, 1, 0), ALLOW, id="unix_pair"),
        pytest.param(53, (1, 1 | 0x80800, 0), ALLOW, id="unix_pair_with_flags"),
        pytest.param(16, (0, 0x5421), ALLOW, id="FIONBIO"),
        pytest.param(16, (0, 0x5412), refused(errno.ENOTTY), id="TIOCSTI"),
        pytest.param(16, (0, 0x541C), refused(errno.ENOTTY), id="TIOCLINUX"),
        pytest.param(157, (15,), ALLOW, id="PR_SET_NAME"),
        pytest.param(157, (4,), refused(errno.EPERM), id="PR_SET_DUMPABLE"),
        pytest.param(157, (22,), refused(errno.EPERM), id="PR_SET_SECCOMP"),
        pytest.param(302, (0, 7, 0), ALLOW, id="reading_a_limit"),
        pytest.param(302, (0, 7, 1), refused(errno.EPERM), id="setting_a_limit"),
        pytest.param(302, (0, 7, 2**32), refused(errno.EPERM), id="setting_a_limit_from_high_memory"),
        pytest.param(72, (0, 3), ALLOW, id="F_GETFL"),
        pytest.param(72, (0, 1030), ALLOW, id="F_DUPFD_CLOEXEC"),
        pytest.param(72, (0, 8), refused(errno.EPERM), id="F_SETOWN"),
        pytest.param(72, (0, 10), refused(errno.EPERM), id="F_SETSIG"),
        pytest.param(72, (0, 15), refused(errno.EPERM), id="F_SETOWN_EX"),
        pytest.param(72, (0, 1031), refused(errno.EPERM), id="F_SETPIPE_SZ"),
        pytest.param(54, (3, 1, 7), ALLOW, id="SO_SNDBUF"),
        pytest.param(54, (3, 1, 26), refused(errno.ENOPROTOOPT), id="SO_ATTACH_FILTER"),
        pytest.param(54, (3, 1, 50), refused(errno.ENOPROTOOPT), id="SO_ATTACH_BPF"),
        pytest.param(54, (3, 6, 7), refused(errno.ENOPROTOOPT), id="option_of_another_level"),
        pytest.param(55, (3, 1, 77), refused(errno.ENOPROTOOPT), id="SO_PEERPIDFD"),
    ],
)
def test_arguments_decide(program: bytes, number: int, arguments: tuple[int, ...], expected: int) -> None:
    assert decide(program, number, *arguments) == expected


def test_without_a_gate_a_fork_is_refused() -> None:
    assert decide(seccomp.assemble(fork_gate=False), 56, 17) == refused(errno.EPERM)


def test_on_the_hosts_file_system_no_socket_can_be_pointed_anywhere() -> None:
    own, hosts = (seccomp.assemble(fork_gate=True, own_root=value) for value in (True, False))
    assert decide(own, 41, 1, 1, 0) == ALLOW
    assert decide(hosts, 41, 1, 1, 0) == refused(errno.EAFNOSUPPORT)
    assert decide(hosts, 53, 1, 2, 0) == refused(errno.EAFNOSUPPORT)  # a datagram pair takes any address
    assert decide(hosts, 53, 1, 1 | 0x80000, 0) == ALLOW


def test_on_the_hosts_file_system_modes_owners_and_times_stay() -> None:
    own, hosts = (seccomp.assemble(fork_gate=True, own_root=value) for value in (True, False))
    for number in OWN_ROOT_ONLY:
        assert (decide(own, number), decide(hosts, number)) == (ALLOW, refused(errno.EPERM))


def test_every_rule_has_a_reason_and_no_call_two_rules() -> None:
    tables = [*ALLOWED, *KILLED]
    assert all(len(reason) > 3 for reason, _ in tables)
    assert all(len(reason) > 10 for _, _, reason in ARGUMENT_RULES)
    numbers = [number for _, calls in tables for number in calls.values()]
    numbers += [number for _, number, _ in ARGUMENT_RULES]
    assert len(numbers) == len(set(numbers))


def test_the_table_stays_small() -> None:
    allowed = sum(len(calls) for _, calls in ALLOWED) + len(ARGUMENT_RULES)
    assert allowed < _MOST_NUMBERS
    assert len(seccomp.assemble(fork_gate=True)) // 8 < 4096  # BPF_MAXINSNS
