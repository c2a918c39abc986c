"""The pages that every execution writes to, copied ahead of time.

After a fork both processes share all memory, and the first write to a page copies it: some 300 pages for
the smallest program, because Python counts references inside its objects. Nobody waits while the guest is
idle, so the session copies them then. Guests are forks of one process, so all have them at the same
addresses. Source: madvise(2), MADV_POPULATE_WRITE.
"""

import ctypes
import os
import resource
import struct
from collections.abc import Callable, Iterable

from sandboxd.isolation import syscalls

_POPULATE_WRITE = 23  # asm-generic/mman-common.h, since Linux 5.14
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_ADDRESS = struct.Struct("=Q")
_MOST_PAGES = 4096

_libc = ctypes.CDLL(None)
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_mincore = _libc.mincore
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)

Range = tuple[int, int]
"""Address and length, both in bytes."""


def copy_now(ranges: Iterable[Range]) -> None:
    """Makes this process's own copies. What is not mapped any more, or can't be, is passed over."""
    for address, length in ranges:
        _madvise(address, length, _POPULATE_WRITE)


def find(action: Callable[[], object], *, proc: int) -> list[Range]:
    """The ranges that `action` writes to, tried in a forked child; none where the kernel can't tell.

    `proc` is a descriptor of a /proc that shows the caller, which must have one thread.
    """
    pages = _resident_pages(proc)
    if not pages or _madvise(pages[0], _PAGE_BYTES, _POPULATE_WRITE) != 0:
        return []
    looking = _written_by(lambda: None, pages)
    return _joined(sorted(_written_by(action, pages) - looking))


def _written_by(action: Callable[[], object], pages: list[int]) -> set[int]:
    readable, writable = os.pipe()
    pid = syscalls.fork()
    if pid == 0:
        try:
            action()
            found = [page for page in pages if _is_own(page)][:_MOST_PAGES]
            os.write(writable, b"".join(map(_ADDRESS.pack, found)))
        finally:
            os._exit(0)
    os.close(writable)
    with open(readable, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return {address for (address,) in _ADDRESS.iter_unpack(data)}


def _is_own(page: int) -> bool:
    """Whether a write to the page costs no fault, as after a write. The kernel's own map of pages would say
    it too, but not to a process in a user namespace."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    _madvise(page, _PAGE_BYTES, _POPULATE_WRITE)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt == before


def _resident_pages(proc: int) -> list[int]:
    """Addresses of the pages in memory that this process may write to and shares by forks alone."""
    try:
        descriptor = os.open("self/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    except OSError:
        return []
    with open(descriptor) as maps:
        lines = [line.split() for line in maps]
    found: list[int] = []
    for area, access, *_ in lines:
        if access == "rw-p":
            start, end = (int(text, 16) for text in area.split("-"))
            resident = ctypes.create_string_buffer((end - start) // _PAGE_BYTES)
            if _mincore(start, end - start, resident) == 0:
                found += [start + n * _PAGE_BYTES for n, flag in enumerate(resident.raw) if flag & 1]
    return found


def _joined(pages: list[int]) -> list[Range]:
    found: list[Range] = []
    for page in pages:
        if found and sum(found[-1]) == page:
            found[-1] = (found[-1][0], found[-1][1] + _PAGE_BYTES)
        else:
            found.append((page, _PAGE_BYTES))
    return found
