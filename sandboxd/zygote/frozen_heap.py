"""Owns the move of the preloaded heap into a sealed file in memory, which makes every fork of it cheaper.

fork(2) copies the page table of anonymous memory entry by entry, and the end of the child takes it down
again: 16,000 entries each way for what numpy and pandas bring. Of a private file mapping that nobody has
written to it copies none, and a guest fills in the pages it uses. All else stays as it was: a write makes a
page the writer's own, at the address it had. Sources: vma_needs_copy() in mm/memory.c of the kernel,
memfd_create(2), F_ADD_SEALS in fcntl(2).
"""

import ctypes
import fcntl
import mmap
import os
import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

_PAGE_BYTES = mmap.PAGESIZE
_PLAIN_FLAGS = frozenset({"rd", "wr", "mr", "mw", "me", "ac", "sd", "hg", "nh"})
"""Of VmFlags in proc_pid_smaps(5). An area with another one, such as wiped at a fork, keeps what it has."""
_MOST_EMPTY = 2
"""Areas with less than one page in this many in use would make the file larger than what it saves."""
_MALLOC_HEADER = struct.Struct("=QQ")
_MALLOC_MAPPED = 2
"""IS_MMAPPED of glibc's malloc.c, alone of the three lowest bits of a chunk's size."""

_MOVE = bytes.fromhex(
    # long move(struct {long address, length, file, offset, access;} *areas, long count)
    "53 4154 4889fb 4989f4"  # push rbx, r12; rbx = areas; r12 = count
    "4d85e4 7449"  # next: when r12 is 0, go to done
    "8b7b10 488b33 488b5308 4c8b5318"  # file, address, length, offset
    "b812000000 0f05"  # pwrite64
    "483b4308 752e"  # when it did not return length, go to done
    "488b3b 488b7308 488b5320"  # address, length, access
    "41ba12000000 448b4310 4c8b4b18"  # MAP_PRIVATE | MAP_FIXED, file, offset
    "b809000000 0f05"  # mmap
    "483b03 7509"  # when it did not return address, go to done
    "4883c328 49ffcc ebb2"  # the next area; r12 -= 1; go to next
    "4c89e0 415c 5b c3"  # done: return r12, the areas that are left
)
"""Machine code for x86-64: nothing may be written to an area between its copy and its replacement, and
whatever Python or a library does writes to some. This needs registers and a few bytes of stack."""
_AREA = struct.Struct("=5Q")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A piece of this process's memory; addresses in bytes."""

    start: int
    end: int
    access: int
    """PROT_READ, or that and PROT_WRITE."""

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start


def freeze(*, proc: int) -> int:
    """Moves what this process has in anonymous memory; returns the bytes moved, 0 where that can't be done.

    For a process with one thread that is about to fork many children. `proc` is a descriptor of a /proc
    that shows it. What can't be moved stays where it is; then forks only cost more.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return _freeze(proc)
    except OSError:  # no memory files, none that may be executed, or no /proc
        return 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _freeze(proc: int) -> int:
    file = os.memfd_create("heap", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        move, code = _loaded(_MOVE)
        areas = [piece for area in _anonymous_areas(proc) for piece in _without_mapped_blocks(area)]
        total = sum(area.length for area in areas)
        os.ftruncate(file, total)
        os.posix_fallocate(file, 0, max(total, 1))  # a write that fails half-way would stop the move there
        offsets = _offsets(areas)
        table = b"".join(
            _AREA.pack(area.start, area.length, file, offset, area.access)
            for area, offset in zip(areas, offsets, strict=True)
        )
        buffer = ctypes.create_string_buffer(table)
        left = move(ctypes.addressof(buffer), len(areas))
        _libc.munmap(code, _PAGE_BYTES)
        # No mapping of it can be written through, and no guest can shorten it under another.
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        return sum(area.length for area in areas[: len(areas) - left])
    finally:
        os.close(file)


def _offsets(areas: list[Area]) -> list[int]:
    """Where each area goes. Neighbours follow each other, so that the kernel makes one mapping of them."""
    offsets, position = [], 0
    for area in areas:
        offsets.append(position)
        position += area.length
    return offsets


def _loaded(code: bytes) -> "tuple[ctypes._FuncPointer, int]":
    """Machine code as a function, and its address. From a file, because memory that was written may not be
    made executable where systemd's MemoryDenyWriteExecute holds."""
    file = os.memfd_create("move", os.MFD_CLOEXEC)
    try:
        os.write(file, code.ljust(_PAGE_BYTES, b"\xcc"))
        address = _libc.mmap(None, _PAGE_BYTES, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, file, 0)
        if address is None or address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap of machine code")
    finally:
        os.close(file)
    kind = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_long)
    return kind(address), address


def _anonymous_areas(proc: int) -> Iterator[Area]:
    """Areas with pages of this process's own that a copy in a file can stand for, by address."""
    descriptor = os.open("self/smaps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with open(descriptor) as smaps:
        text = smaps.read()
    for lines in _entries(text):
        head = lines[0].split()
        name = head[5] if len(head) > 5 else ""
        if head[1] not in ("rw-p", "r--p") or (name.startswith("[") and name != "[heap]"):
            continue
        facts = dict(line.split(":", 1) for line in lines[1:])
        start, end = (int(part, 16) for part in head[0].split("-"))
        if (
            _kib(facts["Anonymous"]) > 0
            and _MOST_EMPTY * _kib(facts["Rss"]) * 1024 >= end - start
            and _PLAIN_FLAGS.issuperset(facts.get("VmFlags", "unknown").split())
        ):
            access = mmap.PROT_READ | (mmap.PROT_WRITE if head[1] == "rw-p" else 0)
            yield Area(start=start, end=end, access=access)


def _entries(smaps: str) -> Iterator[list[str]]:
    """The lines of one area each, its address first."""
    lines: list[str] = []
    for line in smaps.splitlines():
        if lines and line[:1] in "0123456789abcdef":
            yield lines
            lines = []
        lines.append(line)
    if lines:
        yield lines


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0])


def _without_mapped_blocks(area: Area) -> Iterator[Area]:
    """Cuts out the large blocks that malloc has mapped one by one: realloc grows them with mremap(2), and
    the file has nothing behind its end."""
    start, page = area.start, area.start
    while page < area.end:
        before, size = _MALLOC_HEADER.unpack(ctypes.string_at(page, _MALLOC_HEADER.size))
        length = size & ~7
        mapped = before == 0 and size & 7 == _MALLOC_MAPPED and length and length % _PAGE_BYTES == 0
        if not mapped or page + length > area.end:
            page += _PAGE_BYTES
            continue
        if page > start:
            yield replace(area, start=start, end=page)
        page = start = page + length
    if area.end > start:
        yield replace(area, start=start, end=area.end)
