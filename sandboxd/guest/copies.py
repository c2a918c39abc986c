"""Copies of a guest by fork: each waits in the ordinary message loop until it is needed or killed.

The kernel lets a fork through only when the host has ordered it. A copy has everything: the namespace,
imports, random state, and the workspace files, which it reads into memory because the session goes on to
change them. No user code runs between the order and the copy's first word.
"""

import fcntl
import gc
import os
import tempfile
from collections.abc import Callable

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
    _without_collections(session, lambda descriptors: _fork(session, order, descriptors))


def serve_brief_fork(session: Session, order: Fork) -> bool:
    """The same for a copy that holds no files, so that it can never become a session. True in the copy."""
    return _without_collections(
        session, lambda descriptors: _fork(session, order, descriptors, become=_become_brief_copy)
    )


def refuse_fork(session: Session, order: Fork, problem: str) -> None:
    """Says that there will be no copy."""
    _close(session.take_descriptors())
    session.send(ForkFailed(fork_id=order.fork_id, problem=problem))


def _without_collections(session: Session, fork: Callable[[list[int]], bool]) -> bool:
    descriptors = session.take_descriptors()
    collecting = gc.isenabled()
    gc.disable()  # a finaliser is user code
    try:
        return run_shielded(lambda: fork(descriptors))
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


def _fork(session: Session, order: Fork, descriptors: list[int], become: "_Become | None" = None) -> bool:
    try:
        if len(descriptors) != _DESCRIPTORS:
            raise OSError("no descriptor is free")
        pid = syscalls.fork()
    except (OSError, MemoryError) as error:
        _close(descriptors)
        session.send(ForkFailed(fork_id=order.fork_id, problem=str(error) or "no memory"))
        return False
    if pid:
        _close(descriptors)
        in_use = session.latest_run >= _RUNS_OF_A_SESSION_IN_USE
        if become is None and in_use and not session.has_message():
            hot_pages.copy_now(session.hot_pages)
        return False
    try:
        (become or _become_copy)(session, order, descriptors)
    except BaseException:
        os._exit(_EXIT_INCOMPLETE)  # never two sessions on one channel
    return True


_Become = Callable[[Session, Fork, list[int]], None]


def _become_copy(session: Session, order: Fork, descriptors: list[int]) -> None:
    _take_over(descriptors)
    _keep_files(session, order)
    held = 0 if session.kept_files is None else session.kept_files.size
    session.send(Copied(fork_id=order.fork_id, file_bytes=held))


def _become_brief_copy(session: Session, order: Fork, descriptors: list[int]) -> None:
    _take_over(descriptors)
    session.send(Copied(fork_id=order.fork_id))


def _take_over(descriptors: list[int]) -> None:
    # User code may have closed 1 or 2, so that one of ours has the number: first out of the way.
    above = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _CHANNEL + 1) for descriptor in descriptors]
    _close(descriptors)
    for descriptor, target in zip(above, (_CHANNEL, 1, 2), strict=True):
        os.dup2(descriptor, target, inheritable=True)
    _close(above)


def _keep_files(session: Session, order: Fork) -> None:
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


def _move_to(session: Session, directory: str) -> None:
    if directory != session.workspace:
        session.workspace = directory
        os.environ.update(HOME=directory, TMPDIR=directory)
        tempfile.tempdir = None


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
