"""The write-ahead journal: what was acknowledged is here before it is anywhere else.

A record is on its way to the database for some milliseconds. Until then it exists in a file that was
appended to by one write(2): the page cache outlives a SIGKILL of the server, so no fsync is needed for
that, and an append costs microseconds where a commit costs a millisecond. `docs/decisions/` has the why.

A segment is a header (magic, journal id, sequence of its first record) and records (length, CRC-32,
payload). Only the last record written can be torn, by a kill inside write(2); it was never acknowledged.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sandboxd.limits import MIB
from sandboxd.store.errors import StoreFull, StoreUnavailable

_MAGIC = b"SBXJRNL1"
_HEADER = struct.Struct("<8s16sQ")
_RECORD = struct.Struct("<II")
_ID_FILE = "journal-id"
_SUFFIX = ".journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """Sizes in bytes."""

    segment_bytes: int = 16 * MIB
    """A segment is closed beyond this, and deleted once the database has it for certain."""
    total_bytes: int = 256 * MIB
    """New work is refused beyond this: the database has not kept up. Outcomes may use twice as much."""
    reserve_bytes: int = 4 * MIB
    """Disk blocks allocated ahead, so that what runs can still be recorded when the disk fills up."""


@dataclass(slots=True)
class _Segment:
    path: Path
    first_sequence: int
    last_sequence: int
    size: int


@dataclass(frozen=True, slots=True)
class DamagedSegment:
    """A segment that ends before its records do."""

    path: Path
    good_records: int
    lost_bytes: int


class Journal:
    """Append-only segments in one directory. One instance a directory: the caller holds the store's lock.

    `append` is synchronous and safe to call from the event loop; sequences count from 1 without gaps.
    """

    def __init__(self, directory: Path, limits: JournalLimits | None = None) -> None:
        self._directory = directory
        self._limits = limits or JournalLimits()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.id = _read_or_make_id(directory)
        self.damaged: list[DamagedSegment] = []
        self._closed = [self._scan(path) for path in sorted(directory.glob(f"*{_SUFFIX}"))]
        self._active: _Segment | None = None
        self._descriptor = -1
        self._reserved_to = 0
        self._created = 0
        self.last_sequence = max((segment.last_sequence for segment in self._closed), default=0)

    @property
    def total_bytes(self) -> int:
        active = self._active.size if self._active else 0
        return active + sum(segment.size for segment in self._closed)

    def start_after(self, sequence: int) -> None:
        """Number new records from beyond `sequence`, which the database has seen."""
        self.last_sequence = max(self.last_sequence, sequence)

    def append(self, payload: bytes, *, begins_work: bool) -> int:
        """Write one record and return its sequence.

        `begins_work` says that refusing costs nothing yet: such a record may not use the reserve.
        Raises StoreFull without space, StoreUnavailable when writing fails; nothing is kept then.
        """
        head = _RECORD.pack(len(payload), zlib.crc32(payload))
        size = len(head) + len(payload)
        segment = self._segment_for(size, begins_work=begins_work)
        try:
            written = os.writev(self._descriptor, [head, payload])
        except OSError as error:
            self._undo(segment)
            raise _as_store_error(error) from error
        if written != size:
            self._undo(segment)
            raise StoreFull(limit=segment.size)
        segment.size += written
        self.last_sequence += 1
        segment.last_sequence = self.last_sequence
        return self.last_sequence

    def sync(self) -> None:
        """Put everything appended so far on the disk itself; for power loss, not for a kill."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)

    def records_after(self, sequence: int) -> Iterator[tuple[int, bytes]]:
        """Every whole record beyond `sequence`, oldest first."""
        active = [self._active] if self._active else []
        for segment in self._closed + active:
            if segment.last_sequence > sequence and segment.path.exists():
                for number, payload in _read(segment):
                    if number > sequence:
                        yield number, payload

    def has_closed_until(self, sequence: int) -> bool:
        """Whether a segment that could be dropped holds only records up to `sequence`."""
        return any(segment.last_sequence <= sequence for segment in self._closed)

    def drop_until(self, sequence: int) -> None:
        """Delete the closed segments whose every record the database has for certain."""
        for segment in [s for s in self._closed if s.last_sequence <= sequence]:
            if any(damage.path == segment.path for damage in self.damaged):
                with suppress(FileNotFoundError):
                    segment.path.rename(segment.path.with_suffix(".damaged"))
            else:
                segment.path.unlink(missing_ok=True)
            self._closed.remove(segment)

    def renew_if_removed(self) -> None:
        """Where somebody removed the files, what is appended from now on is in a new one."""
        if self._active is not None and os.fstat(self._descriptor).st_nlink == 0:
            self.rotate()
        if not self._directory.exists():
            self._directory.mkdir(mode=0o700, parents=True)
            (self._directory / _ID_FILE).write_bytes(self.id)

    def rotate(self) -> None:
        """Close the active segment, so that it can be dropped once applied."""
        if self._active is None:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        self._closed.append(self._active)
        self._active = None

    def close(self) -> None:
        self.rotate()

    def _segment_for(self, size: int, *, begins_work: bool) -> _Segment:
        bound = self._limits.total_bytes * (1 if begins_work else 2)
        if self.total_bytes + size > bound:
            raise StoreUnavailable(problem="the history database does not keep up with what is recorded")
        active = self._active
        if active is None:
            active = self._start_segment(size)
        elif begins_work and active.size + size > self._limits.segment_bytes:
            # Outcomes stay in the segment they have blocks reserved in: a new one may not be had.
            active = self._start_segment(size)
        if begins_work:
            self._reserved_to = self._reserve(self._descriptor, active, size, self._reserved_to)
        return active

    def _start_segment(self, size: int) -> _Segment:
        """Make the next segment the active one; where that fails the old one stays active."""
        segment, descriptor = self._create_segment()
        try:
            reserved_to = self._reserve(descriptor, segment, size, 0)
        except (StoreFull, StoreUnavailable):
            os.close(descriptor)
            segment.path.unlink(missing_ok=True)
            raise
        self.rotate()
        self._active, self._descriptor, self._reserved_to = segment, descriptor, reserved_to
        return segment

    def _create_segment(self) -> tuple[_Segment, int]:
        first = self.last_sequence + 1
        # Several may begin at one sequence, where nothing could be written to the earlier ones.
        self._created += 1
        path = self._directory / f"{first:020d}-{os.getpid():010d}-{self._created:010d}{_SUFFIX}"
        try:
            descriptor = os.open(
                path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise _as_store_error(error) from error
        try:
            if os.write(descriptor, _HEADER.pack(_MAGIC, self.id, first)) != _HEADER.size:
                raise StoreFull(limit=0)
        except (OSError, StoreFull) as error:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise _as_store_error(error) if isinstance(error, OSError) else error from error
        return _Segment(path, first, first - 1, _HEADER.size), descriptor

    def _reserve(self, descriptor: int, segment: _Segment, size: int, reserved_to: int) -> int:
        """Allocate blocks ahead of the end of the file without changing its length; give where they end."""
        wanted = segment.size + size + self._limits.reserve_bytes
        if wanted <= reserved_to:
            return reserved_to
        step = wanted + self._limits.reserve_bytes
        try:
            fallocate_keeping_size(descriptor, segment.size, step - segment.size)
        except OSError as error:
            raise _as_store_error(error) from error
        return step

    def _undo(self, segment: _Segment) -> None:
        """Cut off a record that was written in part; a segment that can't be cut is left as it is."""
        try:
            os.ftruncate(self._descriptor, segment.size)
        except OSError:
            # A torn record ends the reading of a segment, so later ones must go to another.
            self.rotate()
        self._reserved_to = 0

    def _scan(self, path: Path) -> _Segment:
        segment = _Segment(path, 0, 0, path.stat().st_size)
        good_bytes = 0
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) == _HEADER.size:
            magic, journal_id, first = _HEADER.unpack(header)
            if magic == _MAGIC and journal_id == self.id:
                segment.first_sequence, segment.last_sequence = first, first - 1
                good_bytes = _HEADER.size
                for sequence, payload in _read(segment):
                    segment.last_sequence = sequence
                    good_bytes += _RECORD.size + len(payload)
        if good_bytes < segment.size:
            good = segment.last_sequence - segment.first_sequence + 1 if segment.first_sequence else 0
            self.damaged.append(DamagedSegment(path, good, segment.size - good_bytes))
        return segment


def fallocate_keeping_size(descriptor: int, offset: int, length: int) -> None:
    """fallocate(2) with FALLOC_FL_KEEP_SIZE, which os.posix_fallocate does not offer."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    mode = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h
    failed = libc.fallocate64(
        ctypes.c_int(descriptor), ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length)
    )
    errno = ctypes.get_errno()
    if failed and errno != 95:  # EOPNOTSUPP: this file system can't; then there is no reserve
        raise OSError(errno, os.strerror(errno))


def _read(segment: _Segment) -> Iterator[tuple[int, bytes]]:
    sequence = segment.first_sequence
    with segment.path.open("rb") as file:
        file.seek(_HEADER.size)
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            length, checksum = _RECORD.unpack(head)
            # A damaged length must not make us read the whole file into memory for nothing.
            if length > segment.size:
                return
            payload = file.read(length)
            if len(payload) != length or zlib.crc32(payload) != checksum:
                return
            yield sequence, payload
            sequence += 1


def _read_or_make_id(directory: Path) -> bytes:
    path = directory / _ID_FILE
    if not path.exists():
        fresh = directory / f"{_ID_FILE}.new"
        fresh.write_bytes(os.urandom(16))
        fresh.rename(path)
    journal_id = path.read_bytes()
    if len(journal_id) != 16:
        raise StoreUnavailable(problem=f"{_ID_FILE} of the journal is damaged")
    return journal_id


def _as_store_error(error: OSError) -> StoreFull | StoreUnavailable:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(limit=0)
    return StoreUnavailable(problem=f"the journal can't be written: {os.strerror(error.errno or 0)}")
