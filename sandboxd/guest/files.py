"""The workspace as it was at one moment: taken into memory by a copy, put back when it becomes the session.

Only a process that copies itself or was copied runs this, so nothing else changes the files meanwhile.
"""

import contextlib
import os
import stat
from dataclasses import dataclass, field

BRANCHES = ".branches"
"""Directory in the workspace with the files of branches; it belongs to no state."""
MOST_BYTES = 256 * 1024 * 1024
"""Files beyond this are not kept in memory: the state can't be kept at all then."""
_FIRST_DESCRIPTOR = 4
_OPEN_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK


class TooLarge(Exception):
    """The files are larger than may be kept."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A directory, a file or a symbolic link."""

    mode: int
    mtime_ns: int
    data: bytes = b""
    """Content of a file, target of a link."""


@dataclass(frozen=True, slots=True)
class _OpenFile:
    """A descriptor of a workspace file; copies would share its position."""

    descriptor: int
    path: str
    position: int


@dataclass(slots=True)
class WorkspaceFiles:
    """What `take` found. Paths are relative to `directory`."""

    directory: str
    entries: dict[str, _Entry] = field(default_factory=dict)
    open_files: list[_OpenFile] = field(default_factory=list)
    current: str = ""
    """The current directory; absolute when it is outside."""
    size: int = 0


def take(directory: str) -> WorkspaceFiles:
    """Reads everything below `directory`; `TooLarge` when that is too much."""
    files = WorkspaceFiles(directory)
    inodes: dict[tuple[int, int], str] = {}
    if os.path.isdir(directory) and directory != "/":
        _take_directory(files, "", inodes)
    files.current = _relative(_current_directory(directory), directory)
    files.open_files = _open_files(inodes)
    return files


def put_back(files: WorkspaceFiles, directory: str) -> list[str]:
    """Makes `directory` what was taken; returns what could not be put back."""
    problems: list[str] = []
    if directory != "/" and (os.path.isdir(directory) or directory != files.directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _remove_others(files, directory, "")
        for path, entry in files.entries.items():
            try:
                _put_entry(f"{directory}/{path}", entry)
            except OSError as error:
                problems.append(f"{path}: {error.strerror}")
        for path, entry in reversed(files.entries.items()):  # inner ones first: writing changes the time
            if stat.S_ISDIR(entry.mode):
                _set_mode_and_time(f"{directory}/{path}", entry)
    for opened in files.open_files:
        try:
            _reopen(opened, f"{directory}/{opened.path}")
        except OSError as error:
            problems.append(f"open file {opened.path}: {error.strerror}")
    try:
        os.chdir(os.path.join(directory, files.current))
    except OSError:
        os.chdir(directory)
    return problems


def remove_tree(path: str) -> None:
    """Removes `path` and all below it, as far as it can."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.chmod(path, 0o700)
            for name in os.listdir(path):
                remove_tree(f"{path}/{name}")
            os.rmdir(path)
        else:
            os.unlink(path)


def _current_directory(otherwise: str) -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return otherwise


def _relative(path: str, directory: str) -> str:
    if path == directory:
        return ""
    return path[len(directory) + 1 :] if path.startswith(directory + "/") else path


def _take_directory(files: WorkspaceFiles, inside: str, inodes: dict[tuple[int, int], str]) -> None:
    directory = f"{files.directory}/{inside}".rstrip("/")
    for name in _names(directory):
        path = f"{inside}/{name}" if inside else name
        if path == BRANCHES:
            continue
        full = f"{files.directory}/{path}"
        status = os.lstat(full)
        if stat.S_ISDIR(status.st_mode):
            files.entries[path] = _Entry(status.st_mode, status.st_mtime_ns)
            _take_directory(files, path, inodes)
        elif stat.S_ISLNK(status.st_mode):
            files.entries[path] = _Entry(status.st_mode, status.st_mtime_ns, os.fsencode(os.readlink(full)))
        elif stat.S_ISREG(status.st_mode):
            files.size += status.st_size
            if files.size > MOST_BYTES:
                raise TooLarge
            inodes[status.st_dev, status.st_ino] = path
            files.entries[path] = _Entry(status.st_mode, status.st_mtime_ns, _read(full, status))


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except PermissionError:
        mode = stat.S_IMODE(os.stat(directory).st_mode)
        os.chmod(directory, 0o700)
        try:
            return os.listdir(directory)
        finally:
            os.chmod(directory, mode)


def _read(path: str, status: os.stat_result) -> bytes:
    readable = bool(status.st_mode & stat.S_IRUSR)
    if not readable:
        os.chmod(path, 0o600)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
        if not readable:
            os.chmod(path, stat.S_IMODE(status.st_mode))


def _open_files(inodes: dict[tuple[int, int], str]) -> list[_OpenFile]:
    found: list[_OpenFile] = []
    if not inodes:
        return found
    for descriptor in range(_FIRST_DESCRIPTOR, os.sysconf("SC_OPEN_MAX")):
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        path = inodes.get((status.st_dev, status.st_ino))
        if path is not None and stat.S_ISREG(status.st_mode):
            found.append(_OpenFile(descriptor, path, os.lseek(descriptor, 0, os.SEEK_CUR)))
    return found


def _remove_others(files: WorkspaceFiles, directory: str, inside: str) -> None:
    """Removes what was not there, and what was something else."""
    here = f"{directory}/{inside}".rstrip("/")
    os.chmod(here, 0o700)
    for name in os.listdir(here):
        path = f"{inside}/{name}" if inside else name
        if path == BRANCHES:
            continue
        entry = files.entries.get(path)
        mode = os.lstat(f"{directory}/{path}").st_mode
        if entry is None or stat.S_IFMT(entry.mode) != stat.S_IFMT(mode):
            remove_tree(f"{directory}/{path}")
        elif stat.S_ISDIR(mode):
            _remove_others(files, directory, path)


def _put_entry(path: str, entry: _Entry) -> None:
    if stat.S_ISDIR(entry.mode):
        os.makedirs(path, mode=0o700, exist_ok=True)
        return
    if stat.S_ISLNK(entry.mode):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(os.fsdecode(entry.data), path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.chmod(path, 0o600)
    # In place: descriptors and maps of the file see it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(entry.data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    _set_mode_and_time(path, entry)


def _set_mode_and_time(path: str, entry: _Entry) -> None:
    with contextlib.suppress(OSError):
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        os.chmod(path, stat.S_IMODE(entry.mode))


def _reopen(opened: _OpenFile, path: str) -> None:
    import fcntl

    flags = fcntl.fcntl(opened.descriptor, fcntl.F_GETFL) & _OPEN_FLAGS
    mode = stat.S_IMODE(os.stat(path).st_mode)
    os.chmod(path, 0o600)
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    finally:
        os.chmod(path, mode)
    os.lseek(descriptor, opened.position, os.SEEK_SET)
    os.dup2(descriptor, opened.descriptor, inheritable=False)
    os.close(descriptor)
