"""Copies of a guest by fork: each waits in the ordinary message loop until it is needed or killed.

The kernel lets a fork through only when the host has ordered it. A copy has everything: the namespace,
imports, random state, and the workspace files, which it reads into memory because the session goes on to
change them. No user code runs between the order and the copy's first word.
"""

import fcntl
import gc
import os
import tempfile

from sandboxd.channel.messages import Copied, Fork, ForkFailed, RemoveFiles, Restore, Restored
from sandboxd.guest import files, hot_pages
from sandboxd.guest.interrupts import run_shielded
from sandboxd.guest.session import Session
from sandboxd.isolation import syscalls

_CHANNEL = 3
_DESCRIPTORS = 3
_RUNS_OF_A_SESSION_IN_USE = 2
"""One that ran once may never run again, and then its pages stay shared: 1.2 MB a session."""
_EXIT_INCOMPLETE = 75  # EX_TEMPFAIL of sysexits.h


def serve_fork(session: Session, order: Fork) -> None:
    """Returns in the guest at once and in the copy when it is complete; both go on to serve messages."""
    descriptors = session.take_descriptors()
    collecting = gc.isenabled()
    gc.disable()  # a finaliser is user code
    try:
        run_shielded(lambda: _fork(session, order, descriptors))
    finally:
        if collecting:
            gc.enable()


def serve_restore(session: Session, order: Restore) -> None:
    """Puts the files back; from here on this process is a session like any other."""
    kept, session.kept_files = session.kept_files, None
    problems = ["this process holds no files"]
    if kept is not None:
        directory = order.directory or session.workspace
        try:
            problems = run_shielded(lambda: files.put_back(kept, directory))
        except OSError as error:
            problems = [str(error)]
        _move_to(session, directory)
    session.send(Restored(request_id=order.request_id, problem="; ".join(problems)[:1000]))


def serve_remove_files(session: Session, order: RemoveFiles) -> None:
    """Removes the directory of a branch that has ended."""
    if f"/{files.BRANCHES}/" in order.directory and order.directory != session.workspace:
        run_shielded(lambda: files.remove_tree(order.directory))


def _fork(session: Session, order: Fork, descriptors: list[int]) -> None:
    try:
        if len(descriptors) != _DESCRIPTORS:
            raise OSError("no descriptor is free")
        pid = syscalls.fork()
    except (OSError, MemoryError) as error:
        _close(descriptors)
        session.send(ForkFailed(fork_id=order.fork_id, problem=str(error) or "no memory"))
        return
    if pid:
        _close(descriptors)
        if session.latest_run >= _RUNS_OF_A_SESSION_IN_USE and not session.has_message():
            hot_pages.copy_now(session.hot_pages)
        return
    try:
        _become_copy(session, order, descriptors)
    except BaseException:
        os._exit(_EXIT_INCOMPLETE)  # never two sessions on one channel


def _become_copy(session: Session, order: Fork, descriptors: list[int]) -> None:
    # User code may have closed 1 or 2, so that one of ours has the number: first out of the way.
    above = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _CHANNEL + 1) for descriptor in descriptors]
    _close(descriptors)
    for descriptor, target in zip(above, (_CHANNEL, 1, 2), strict=True):
        os.dup2(descriptor, target, inheritable=True)
    _close(above)
    try:
        if session.kept_files is None:  # else this is a copy of a copy: what the first one kept counts
            session.kept_files = files.take(session.workspace)
    except files.TooLarge:
        problem = f"the workspace holds more than {files.MOST_BYTES} bytes"
        session.send(ForkFailed(fork_id=order.fork_id, problem=problem, too_large=True))
        os._exit(_EXIT_INCOMPLETE)
    except MemoryError:
        problem = "no memory is left for the workspace files"
        session.send(ForkFailed(fork_id=order.fork_id, problem=problem, too_large=True))
        os._exit(_EXIT_INCOMPLETE)
    session.send(Copied(fork_id=order.fork_id, file_bytes=session.kept_files.size))


def _move_to(session: Session, directory: str) -> None:
    if directory != session.workspace:
        session.workspace = directory
        os.environ.update(HOME=directory, TMPDIR=directory)
        tempfile.tempdir = None


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
