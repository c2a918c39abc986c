"""The read-only root, entered for real in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ENTER = """
import os, sys
from sandboxd.isolation import mounts, syscalls
library = sys.argv[1]
syscalls.unshare(syscalls.CLONE_NEWNS)
mounts.make_private()
mounts.enter_read_only_root(
    binds=[library, f"{library}/site-packages/kept", f"{library}/site-packages/kept.py"],
    hidden=[f"{library}/site-packages", f"{library}/test"],
)
packages = f"{library}/site-packages"
print(sorted(os.listdir(library)), sorted(os.listdir(packages)), os.listdir(f"{library}/test"))
print(os.listdir(f"{library}/site-packages/kept"), open(f"{library}/site-packages/kept.py").read())
for path in ("/x", f"{library}/x", f"{packages}/x", f"{packages}/kept/x", "/empty/x"):
    try:
        open(path, "w")
        print("written")
    except OSError as error:
        print(error.errno)
print(os.path.exists("/etc"), os.path.exists("/proc/self"))
"""


@pytest.mark.kernel
def test_packages_that_are_needed_are_seen_inside_a_hidden_directory(tmp_path: Path) -> None:
    """This used to hide numpy from guests of a Python without a virtual environment."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    for name in ("json.py", "test/t.py", "site-packages/kept/__init__.py", "site-packages/other/secret.py"):
        (tmp_path / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / name).write_text("")
    (tmp_path / "lib/site-packages/kept.py").write_text("text")
    command = [sys.executable, "-c", _ENTER, str(tmp_path / "lib")]
    lines = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()
    assert lines[0] == "['json.py', 'site-packages', 'test'] ['kept', 'kept.py'] []"
    assert lines[1] == "['__init__.py'] text"
    assert lines[2:7] == ["30"] * 5  # EROFS
    assert lines[7] == "False False"
