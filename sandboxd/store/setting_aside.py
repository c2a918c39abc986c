"""Tells a whole SQLite file of ours from a damaged, a newer or a foreign one, and moves the others away."""

import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from sandboxd.store.migrate import known_revisions
from sandboxd.store.migrations.versions.v0001_first_tables import APPLICATION_ID

_MAGIC = b"SQLite format 3\0"
_COMPANIONS = ("-wal", "-shm")


class Problem(StrEnum):
    """Why a file is not used; also part of the name it is moved to."""

    DAMAGED = "damaged"
    NEWER = "newer"
    FOREIGN = "foreign"
    GONE = "gone"
    """Somebody removed it; what belonged to it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A file that was moved out of the way, never deleted."""

    problem: Problem
    detail: str
    path: Path
    """Where it is now."""

    def __str__(self) -> str:
        if self.problem is Problem.GONE:
            return f"the history database is gone ({self.detail}); a fresh one was made"
        return f"the history database is {self.problem} ({self.detail}); it was kept as {self.path}"


def find_problem(path: Path, *, check_seconds: float = 2.0) -> tuple[Problem, str] | None:
    """What is wrong with the file; None for one of ours that is whole, or none at all.

    The integrity check of a large file is given up after `check_seconds`; a later read then finds what it
    did not reach, and the writer sets the file aside while the server runs.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return Problem.DAMAGED, "its header is not that of a SQLite database"
    try:
        with closing(sqlite3.connect(path, timeout=5)) as connection:
            return _examine(connection, check_seconds)
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "locked" in str(error):
            raise
        return Problem.DAMAGED, str(error)
    except sqlite3.DatabaseError as error:
        return Problem.DAMAGED, str(error)


def set_aside(path: Path, problem: Problem, detail: str) -> SetAside:
    """Rename the file and what belongs to it; the database last, so that a kill loses track of none."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = path.with_name(f"{path.name}.{problem}-{stamp}")
    for suffix in (*_COMPANIONS, ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(target.with_name(target.name + suffix))
    return SetAside(problem=problem, detail=detail, path=target)


def set_aside_before(directory: Path) -> list[Path]:
    """Databases of this directory that were set aside at any time and are still there, oldest first."""
    kinds = "|".join(Problem)
    name = re.compile(rf".+\.(?:{kinds})-\d{{8}}T\d{{6}}\.\d+Z")
    found = [path for path in directory.glob("*.*Z") if name.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name.rpartition("-")[2])


def _examine(connection: sqlite3.Connection, check_seconds: float) -> tuple[Problem, str] | None:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID:
        # A kill before the first commit leaves a file with no tables: as good as none.
        return (Problem.FOREIGN, "another program made it") if tables or application_id else None
    version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if version is None or version[0] not in known_revisions():
        found = version[0] if version else "none"
        return Problem.NEWER, f"its schema revision {found} is unknown to this version of sandboxd"
    give_up = time.monotonic() + check_seconds
    connection.set_progress_handler(lambda: int(time.monotonic() > give_up), 100_000)
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return None
        raise
    return None if verdict == "ok" else (Problem.DAMAGED, str(verdict))
