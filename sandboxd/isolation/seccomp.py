"""The default-deny system call filter, assembled to BPF without a library.

Source: seccomp(2), linux/filter.h, linux/seccomp.h.
"""

import ctypes
import errno
import struct
from dataclasses import dataclass

from sandboxd.isolation import syscalls
from sandboxd.isolation.syscall_table import ALLOWED, KILLED, OWN_ROOT_ONLY

_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000

_SET_MODE_FILTER = 1
_INSTRUCTION_BYTES = 8
_FLAG_NEW_LISTENER = 1 << 3

_RET_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_RET_USER_NOTIF = 0x7FC00000
_RET_ALLOW = 0x7FFF0000

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_GREATER_EQUAL = 0x35
_JUMP_SET = 0x45  # any of these bits
_JUMP_ALWAYS = 0x05
_LONGEST_JUMP = 255
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_CLEAR_SOCKET_FLAGS = 0xFFFFFFFF & ~0x80800  # SOCK_NONBLOCK, SOCK_CLOEXEC
_RETURN = 0x06

_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4
_OFFSET_ARGUMENTS = 16

_MMAP, _CLONE, _CLONE3, _SOCKET, _SOCKETPAIR, _IOCTL, _PRCTL, _PRLIMIT64 = 9, 56, 435, 41, 53, 16, 157, 302
_FCNTL, _SETSOCKOPT, _GETSOCKOPT = 72, 54, 55

_MAP_SHARED_ANONYMOUS = 0x21
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020080  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME
_AF_UNIX = 1
_SOCK_STREAM = 1
_SOL_SOCKET = 1
_ALLOWED_SOCKET_OPTIONS = (2, 3, 4, 7, 8, 9, 13, 17, 20, 21, 30, 38, 39)
"""SO_ REUSEADDR TYPE ERROR SNDBUF RCVBUF KEEPALIVE LINGER PEERCRED RCVTIMEO SNDTIMEO ACCEPTCONN PROTOCOL
DOMAIN, of asm-generic/socket.h."""
_ALLOWED_FCNTLS = (1, 2, 3, 4, 0, 1030, 5, 6, 7, 36, 37, 38, 1032)
"""F_ GETFD SETFD GETFL SETFL DUPFD DUPFD_CLOEXEC, locks, OFD locks, GETPIPE_SZ, of linux/fcntl.h."""
_ALLOWED_IOCTLS = (
    0x5401,
    0x5421,
    0x5451,
    0x5450,
    0x541B,
    0x5413,
)  # TCGETS FIONBIO FIOCLEX FIONCLEX FIONREAD TIOCGWINSZ
_ALLOWED_PRCTLS = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA

_Instruction = tuple[int, int, int, int]


def _errno(code: int) -> int:
    return _RET_ERRNO | code


def _argument(index: int, *, high: bool = False) -> _Instruction:
    return (_LOAD_WORD, 0, 0, _OFFSET_ARGUMENTS + 8 * index + (4 if high else 0))


def _give(action: int) -> _Instruction:
    return (_RETURN, 0, 0, action)


def _one_of(
    index: int, values: tuple[int, ...], otherwise: int, *, masked: int | None = None
) -> list[_Instruction]:
    """Allows when the low word of an argument (of it, the bits of `masked`) is one of `values`."""
    body = [_argument(index)]
    if masked is not None:
        body.append((_AND, 0, 0, masked))
    for position, value in enumerate(values):
        to_allow = len(values) - position  # past the remaining tests and the refusal
        body.append((_JUMP_EQUAL, to_allow, 0, value))
    return [*body, _give(otherwise), _give(_RET_ALLOW)]


def _must_be(index: int, value: int, otherwise: int) -> list[_Instruction]:
    """Goes on when the low word of an argument is `value`."""
    return [_argument(index), (_JUMP_EQUAL, 1, 0, value), _give(otherwise)]


def _socket_rules(*, own_root: bool) -> dict[int, list[_Instruction]]:
    """AF_UNIX only. On the host's file system not even that: Landlock does not stop a connection to a
    socket file, and behind some of them (D-Bus, a container engine) anything can be started. A stream
    pair can't be pointed at another address; a datagram pair could."""
    refused = _errno(errno.EAFNOSUPPORT)
    options = [
        *_must_be(1, _SOL_SOCKET, _errno(errno.ENOPROTOOPT)),
        *_one_of(2, _ALLOWED_SOCKET_OPTIONS, _errno(errno.ENOPROTOOPT)),
    ]
    stream = _one_of(1, (_SOCK_STREAM,), refused, masked=_CLEAR_SOCKET_FLAGS)
    pair = [*_must_be(0, _AF_UNIX, refused), *stream]
    return {
        _SOCKET: _one_of(0, (_AF_UNIX,), refused) if own_root else [_give(refused)],
        _SOCKETPAIR: _one_of(0, (_AF_UNIX,), refused) if own_root else pair,
        _SETSOCKOPT: options,
        _GETSOCKOPT: options,
    }


def _argument_rules(*, fork_gate: bool, own_root: bool) -> dict[int, list[_Instruction]]:
    fork_decision = _RET_USER_NOTIF if fork_gate else _errno(errno.EPERM)
    return {
        _MMAP: [
            _argument(3),
            (_AND, 0, 0, _MAP_SHARED_ANONYMOUS),
            (_JUMP_EQUAL, 0, 1, _MAP_SHARED_ANONYMOUS),
            _give(_errno(errno.ENOMEM)),
            _give(_RET_ALLOW),
        ],
        _CLONE: [
            _argument(0),
            (_JUMP_SET, 0, 1, _CLONE_NAMESPACES),
            _give(_errno(errno.EPERM)),
            (_JUMP_SET, 0, 1, _CLONE_THREAD),
            _give(_RET_ALLOW),
            _give(fork_decision),
        ],
        _CLONE3: [_give(_errno(errno.ENOSYS))],
        _FCNTL: _one_of(1, _ALLOWED_FCNTLS, _errno(errno.EPERM)),
        **_socket_rules(own_root=own_root),
        _IOCTL: _one_of(1, _ALLOWED_IOCTLS, _errno(errno.ENOTTY)),
        _PRCTL: _one_of(0, _ALLOWED_PRCTLS, _errno(errno.EPERM)),
        _PRLIMIT64: [
            _argument(2),
            (_JUMP_EQUAL, 0, 2, 0),
            _argument(2, high=True),
            (_JUMP_EQUAL, 1, 0, 0),
            _give(_errno(errno.EPERM)),
            _give(_RET_ALLOW),
        ],
    }


def assemble(*, fork_gate: bool, own_root: bool = True) -> bytes:
    """The filter program: foreign machine kinds die, then the table, then EPERM.

    With `fork_gate` a clone without CLONE_THREAD waits for the host's decision (user notification);
    without it it is refused. Without `own_root` the guest lives on the host's file system: then what
    Landlock does not hold there is refused here.
    """
    program: list[_Instruction] = [
        (_LOAD_WORD, 0, 0, _OFFSET_ARCH),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH_X86_64),
        _give(_RET_KILL_PROCESS),
        (_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
        (_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT),
        _give(_RET_KILL_PROCESS),
    ]
    for number, body in _argument_rules(fork_gate=fork_gate, own_root=own_root).items():
        program += [(_JUMP_EQUAL, 0, len(body), number), *body]
    program += _search_tree(_spans(own_root=own_root))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


@dataclass(frozen=True, slots=True)
class _Span:
    """Neighbouring numbers from `first` on, up to the next span, that share one action."""

    first: int
    action: int


def _spans(*, own_root: bool) -> list[_Span]:
    actions: dict[int, int] = {}
    for table, action in ((ALLOWED, _RET_ALLOW), (KILLED, _RET_KILL_PROCESS)):
        for _reason, calls in table:
            actions.update(dict.fromkeys(calls.values(), action))
    refused = _errno(errno.EPERM)
    if not own_root:
        actions.update(dict.fromkeys(OWN_ROOT_ONLY, refused))
    spans = [_Span(0, actions.get(0, refused))]
    for number in range(1, max(actions) + 2):
        action = actions.get(number, refused)
        if action != spans[-1].action:
            spans.append(_Span(number, action))
    return spans


def _search_tree(spans: list[_Span]) -> list[_Instruction]:
    """Binary search over the spans. A list of tests would be as right, but the kernel walks the program
    once for each call number when it loads it: short ways make that four times quicker."""
    if len(spans) == 1:
        return [_give(spans[0].action)]
    middle = len(spans) // 2
    below, above = _search_tree(spans[:middle]), _search_tree(spans[middle:])
    if len(below) <= _LONGEST_JUMP:
        return [(_JUMP_GREATER_EQUAL, len(below), 0, spans[middle].first), *below, *above]
    return [
        (_JUMP_GREATER_EQUAL, 0, 1, spans[middle].first),
        (_JUMP_ALWAYS, 0, 0, len(below)),
        *below,
        *above,
    ]


class _SockFprog(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: bytes, *, listener: bool) -> int | None:
    """Loads `program` for the calling process and all it ever forks; there is no way back.

    Returns the listener descriptor of the fork gate, or None without `listener`. Needs no_new_privs.
    """
    fprog = _SockFprog(length=len(program) // _INSTRUCTION_BYTES, filter=program)
    result = syscalls.syscall(
        "seccomp",
        syscalls.SYS_SECCOMP,
        ctypes.c_uint(_SET_MODE_FILTER),
        ctypes.c_uint(_FLAG_NEW_LISTENER if listener else 0),
        ctypes.byref(fprog),
    )
    return result if listener else None
