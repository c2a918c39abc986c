"""Pages copied ahead of time: found by trying, copied without a fault later."""

import subprocess
import sys
import textwrap

import pytest


def _run(script: str) -> str:
    """A forking test needs a process with one thread."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_PREPARED = """
    import ctypes, mmap, os, resource, sys
    from sandboxd.guest import hot_pages
    from sandboxd.isolation import syscalls
    memory = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"x" * len(memory)
    proc = os.open("/proc", os.O_PATH)

    def write_every_second_page():
        for page in range(0, 64, 2):
            memory[page * 4096] = 1

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    libc = ctypes.CDLL(None)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(4096), 23) != 0:
        print("the kernel can't copy pages ahead of time")
        sys.exit()
    found = hot_pages.find(write_every_second_page, proc=proc)
"""


def _needs_linux_5_14(output: str) -> str:
    if output.startswith("the kernel can't"):
        pytest.skip(output)
    return output


def test_pages_that_an_action_writes_are_found() -> None:
    script = """
    pages = {a + n for a, length in found for n in range(0, length, 4096)}
    print(sum((start + page * 4096) in pages for page in range(0, 64, 2)),
          sum((start + page * 4096) in pages for page in range(1, 64, 2)))
    """
    assert _needs_linux_5_14(_run(_PREPARED + script)) == "32 0"


@pytest.mark.parametrize(("ahead", "expected"), [(False, "many"), (True, "few")])
def test_pages_copied_ahead_cost_no_fault_when_they_are_written(ahead: bool, expected: str) -> None:
    script = f"""
    pid = syscalls.fork()
    if pid == 0:
        if {ahead}:
            hot_pages.copy_now(found)
        before = faults()
        write_every_second_page()
        print("many" if faults() - before >= 32 else "few", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    """
    assert _needs_linux_5_14(_run(_PREPARED + script)) == expected


def test_range_that_is_not_mapped_any_more_is_passed_over() -> None:
    script = """
    hot_pages.copy_now([(4096, 4096), *found])
    print("alive")
    """
    assert _needs_linux_5_14(_run(_PREPARED + script)) == "alive"


def test_forked_process_knows_its_own_thread_id() -> None:
    script = """
    import threading
    pid = syscalls.fork()
    if pid == 0:
        print(threading.main_thread().native_id == os.getpid(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    """
    assert _run(_PREPARED + script).endswith("True")
