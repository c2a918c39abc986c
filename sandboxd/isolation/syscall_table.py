"""The system calls of a guest: which, and why. Policy as data; everything not listed is EPERM.

Numbers are those of x86_64 (asm/unistd_64.h). The calls of `ARGUMENT_RULES` are decided by their
arguments in `seccomp.py`. The list grew from what a broad workload of numpy, pandas, requests, aiohttp,
threads, asyncio and files really calls, the same on Python 3.11, 3.12 and 3.13.
"""

# fmt: off
ALLOWED: tuple[tuple[str, dict[str, int]], ...] = (
    ("descriptors and files: reading, writing, positions", {
        "read": 0, "write": 1, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "preadv": 295,
        "pwritev": 296, "preadv2": 327, "pwritev2": 328, "lseek": 8, "close": 3, "dup": 32, "dup2": 33,
        "dup3": 292, "flock": 73, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "truncate":
        76, "fadvise64": 221, "fallocate": 285, "sendfile": 40, "copy_file_range": 326, "close_range":
        436, "sync_file_range": 277, "readahead": 187,
    }),
    ("paths: Landlock and the read-only root decide which", {
        "open": 2, "openat": 257, "creat": 85, "access": 21, "faccessat": 269, "faccessat2": 439, "stat":
        4, "lstat": 6, "fstat": 5, "newfstatat": 262, "statx": 332, "readlink": 89, "readlinkat": 267,
        "getdents": 78, "getdents64": 217, "getcwd": 79, "chdir": 80, "fchdir": 81, "mkdir": 83,
        "mkdirat": 258, "rmdir": 84, "rename": 82, "renameat": 264, "renameat2": 316, "unlink": 87,
        "unlinkat": 263, "symlink": 88, "symlinkat": 266, "link": 86, "linkat": 265, "chmod": 90,
        "fchmod": 91, "fchmodat": 268, "chown": 92, "fchown": 93, "utime": 132, "utimes": 235,
        "utimensat": 280, "futimesat": 261, "umask": 95, "statfs": 137, "fstatfs": 138,
    }),
    ("memory: the allocator and numpy; shared anonymous maps are refused by argument", {
        "brk": 12, "munmap": 11, "mremap": 25, "mprotect": 10, "madvise": 28, "mincore": 27, "msync": 26,
        "mlock": 149, "munlock": 150, "mbind": 237, "get_mempolicy": 239,
    }),
    ("waiting: asyncio, select, threads", {
        "poll": 7, "ppoll": 271, "select": 23, "pselect6": 270, "epoll_create": 213, "epoll_create1": 291,
        "epoll_ctl": 233, "epoll_wait": 232, "epoll_pwait": 281, "epoll_pwait2": 441, "eventfd2": 290,
        "pipe": 22, "pipe2": 293, "timerfd_create": 283, "timerfd_settime": 286, "timerfd_gettime": 287,
        "nanosleep": 35, "clock_nanosleep": 230, "pause": 34, "futex": 202, "futex_waitv": 449,
        "sched_yield": 24, "restart_syscall": 219,
    }),
    ("time and randomness", {
        "gettimeofday": 96, "time": 201, "clock_gettime": 228, "clock_getres": 229, "times": 100,
        "getrandom": 318, "alarm": 37, "setitimer": 38, "getitimer": 36,
    }),
    ("threads and their signals", {
        "exit": 60, "exit_group": 231, "set_robust_list": 273, "rseq": 334,
        "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "rt_sigpending": 127,
        "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "sigaltstack": 131, "set_tid_address": 218,
        "membarrier": 324,
    }),
    ("who and where am I: read only", {
        "getpid": 39, "gettid": 186, "getppid": 110, "getpgrp": 111, "getpgid": 121, "getsid": 124,
        "getuid": 102, "geteuid": 107, "getgid": 104, "getegid": 108, "getresuid": 118, "getresgid": 120,
        "getgroups": 115, "getrusage": 98, "getrlimit": 97, "getpriority": 140, "sysinfo": 99, "uname":
        63, "sched_getaffinity": 204, "sched_getscheduler": 145, "sched_getparam": 143,
        "sched_get_priority_max": 146, "sched_get_priority_min": 147, "getcpu": 309, "capget": 125,
        "arch_prctl": 158,
    }),
    ("sockets already open, such as asyncio's socket pair", {
        "connect": 42, "getpeername": 52, "getsockname": 51, "shutdown": 48, "sendto": 44, "recvfrom": 45,
        "sendmsg": 46, "recvmsg": 47, "sendmmsg": 307, "recvmmsg": 299,
    }),
)
"""Allowed whatever the arguments."""

KILLED: tuple[tuple[str, dict[str, int]], ...] = (
    ("debugging or reading other processes", {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "process_madvise": 440, "kcmp":
        312, "pidfd_getfd": 438,
    }),
    ("changing the machine's view of files", {
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "open_tree": 428, "move_mount":
        429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
        "name_to_handle_at": 303, "open_by_handle_at": 304,
    }),
    ("leaving or making namespaces", {
        "unshare": 272, "setns": 308,
    }),
    ("kernel programs and events", {
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter":
        426, "io_uring_register": 427,
    }),
    ("keys", {
        "keyctl": 250, "add_key": 248, "request_key": 249,
    }),
    ("kernel code, clock and power", {
        "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313,
        "delete_module": 176, "reboot": 169, "swapon": 167, "swapoff": 168, "settimeofday": 164,
        "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "syslog": 103, "acct": 163,
        "quotactl": 179,
    }),
    ("hardware and memory layout", {
        "iopl": 172, "ioperm": 173, "modify_ldt": 154, "personality": 135, "move_pages": 279,
        "migrate_pages": 256, "vmsplice": 278, "memfd_secret": 447, "uselib": 134,
    }),
    ("filters are loaded once, by the zygote", {
        "seccomp": 317,
    }),
)
"""No honest data program calls these: the process ends with SIGSYS, reported as a security violation."""
# fmt: on

ARGUMENT_RULES: tuple[tuple[str, int, str], ...] = (
    ("mmap", 9, "shared anonymous memory would pass by the memory limits: ENOMEM"),
    ("clone", 56, "threads only; a fork is decided by the host, a new namespace never"),
    ("clone3", 435, "its flags are behind a pointer: ENOSYS, and libc falls back to clone"),
    ("socket", 41, "AF_UNIX only; the network is off: EAFNOSUPPORT"),
    ("socketpair", 53, "AF_UNIX only, for asyncio"),
    ("ioctl", 16, "terminal size, non-blocking, close-on-exec and bytes waiting only: else ENOTTY"),
    ("prctl", 157, "naming threads and memory areas only"),
    ("prlimit64", 302, "reading only"),
    ("fcntl", 72, "no F_SETOWN and F_SETSIG, which send any signal to any process; no larger pipes"),
    ("setsockopt", 54, "SOL_SOCKET's plain options: no packet filters, no descriptors of processes"),
    ("getsockopt", 55, "the same: SO_PEERPIDFD would be a handle of the server"),
)
"""(name, number, why): allowed or not by argument."""

OWN_ROOT_ONLY: dict[int, str] = {
    90: "chmod",
    91: "fchmod",
    268: "fchmodat",
    92: "chown",
    93: "fchown",
    132: "utime",
    235: "utimes",
    280: "utimensat",
    261: "futimesat",
    76: "truncate",
}
"""Refused where a guest lives on the host's file system: Landlock lets a process change mode, owner and
times of every file of its user id (and, before ABI 3, its length)."""
