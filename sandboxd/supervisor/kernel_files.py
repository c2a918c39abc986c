"""Small files of /proc and of control groups: one read(2) or write(2), without a buffer that would hide an
error until it is closed and cost three times as much. Every execution reads some."""

import os

_MOST_BYTES = 8192


def read(path: str | os.PathLike[str]) -> bytes:
    """What the file says now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)


def write(path: str | os.PathLike[str], value: object) -> None:
    """Writes a number or a word."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
