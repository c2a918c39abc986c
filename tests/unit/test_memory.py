"""Memory of the server's process: given back when it is free, and imports kept out of the collector's way."""

import subprocess
import sys
import textwrap

import pytest

_SCRIPT = """
    import gc, sys
    from sandboxd import memory

    def resident_mib():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024
"""


def _run(script: str) -> str:
    """What malloc has learned can't be unlearned, so each case has a process of its own."""
    whole = textwrap.dedent(_SCRIPT) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("set_up", "kept"), [("memory.give_back_large_blocks()", "little"), ("", "all")])
def test_large_blocks_between_small_ones_go_back_when_they_are_freed(set_up: str, kept: str) -> None:
    script = f"""
    {set_up or "pass"}
    letter = sys.argv[0][:1] or "x"
    taught = letter * (20 << 20)
    del taught
    before = resident_mib()
    large, small = [], []
    for number in range(20):
        large.append(letter * (10 << 20))
        small.append(letter * 5000)
    large.clear()
    print("little" if resident_mib() - before < 40 else "all" if resident_mib() - before > 150 else "some")
    """
    assert _run(script) == kept


def test_what_the_imports_made_is_not_looked_at_again() -> None:
    script = """
    import asyncio, sqlite3, json
    memory.set_imports_apart()
    print(len(gc.get_objects()) < 1000, gc.get_freeze_count() > 10_000)
    """
    assert _run(script) == "True True"
