"""What can happen to a SQLite file: damage of several kinds, another version, another program's."""

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def damage_header(path: Path) -> None:
    overwrite(path, 0, os.urandom(100))


def damage_pages(path: Path) -> None:
    pages = path.stat().st_size // 4096
    for page in random.sample(range(1, pages), pages // 3):
        overwrite(path, page * 4096, os.urandom(4096))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def truncate_within_the_first_page(path: Path) -> None:
    os.truncate(path, 50)


def other_file(path: Path) -> None:
    path.write_text("these are not the tables you are looking for\n" * 500)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")


def without_wal(path: Path) -> None:
    """The write-ahead log is gone, as after a copy of the database file alone."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


INJURIES: dict[str, Callable[[Path], None]] = {
    "a damaged header": damage_header,
    "damaged pages": damage_pages,
    "a truncated file": truncate,
    "a newer version's file": newer,
    "another program's file": other_file,
}
"""Those after which the file is of no use, by what happened."""
