"""The frozen heap: the same bytes at the same addresses, still everyone's own, and cheaper to fork."""

import subprocess
import sys
import textwrap

import pytest

_PREPARED = """
    import ctypes, gc, mmap, os, sys
    from sandboxd.isolation import syscalls
    from sandboxd.zygote import frozen_heap

    proc = os.open("/proc", os.O_PATH)
    libc = ctypes.CDLL(None, use_errno=True)

    def kib(*names):
        with open("/proc/self/status") as status:
            found = dict(line.split(":", 1) for line in status)
        return sum(int(found[name].split()[0]) for name in names)

    def in_child(action):
        readable, writable = os.pipe()
        pid = syscalls.fork()
        if pid == 0:
            try:
                os.write(writable, repr(action()).encode())
            finally:
                os._exit(0)
        os.close(writable)
        with open(readable) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(pid, 0)
        return answer if status == 0 else f"signal {os.WTERMSIG(status)}"

    def freeze():
        moved = frozen_heap.freeze(proc=proc)
        assert moved > 0, "nothing was moved"
        return moved
"""


def _run(script: str) -> str:
    """Freezing is for a process with one thread; what goes wrong there must not end this one."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_PREPARED) + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    return done.stdout.strip()


def test_after_the_move_every_object_is_what_it_was() -> None:
    script = """
    import hashlib, json, decimal
    held = [{"number": n, "text": str(n) * 9, "bytes": bytes([n % 256]) * 700} for n in range(20_000)]
    digest = lambda: hashlib.sha256(repr(held).encode()).hexdigest()
    before = digest()
    freeze()
    gc.collect()
    held.append(held.pop())
    print(before == digest(), json.loads("[1]"), decimal.Decimal("0.1") + 1, len(held))
    """
    assert _run(script) == "True [1] 1.1 20000"


def test_a_child_of_a_frozen_heap_takes_over_few_pages() -> None:
    script = """
    held = [bytes(700) for _ in range(40_000)]
    before = int(in_child(lambda: kib("RssAnon")))
    freeze()
    after = int(in_child(lambda: kib("RssAnon")))
    print(before > 25_000, after < before / 4, before, after)
    """
    assert _run(script).startswith("True True")


def test_what_one_child_writes_no_other_process_sees() -> None:
    script = """
    held = [bytearray(b"original") for _ in range(10_000)]
    freeze()
    def spoil():
        for one in held:
            one[:] = b"spoiled!"
        return bytes(held[9_999])
    print(in_child(spoil), in_child(lambda: bytes(held[9_999])), bytes(held[9_999]))
    """
    assert _run(script) == "b'spoiled!' b'original' b'original'"


def test_the_file_behind_the_heap_can_be_neither_written_nor_cut() -> None:
    script = """
    made = []
    create = os.memfd_create
    def remember(name, flags):
        file = create(name, flags)
        if name == "heap":
            made.append(os.dup(file))
        return file
    os.memfd_create = remember
    freeze()
    for attempt in (
        lambda: os.pwrite(made[0], b"x", 0),
        lambda: os.ftruncate(made[0], 0),
        lambda: os.ftruncate(made[0], 1 << 40),
        lambda: mmap.mmap(made[0], 4096, flags=mmap.MAP_SHARED),
    ):
        try:
            attempt()
        except PermissionError:
            print("refused")
    """
    assert _run(script).split() == ["refused"] * 4


@pytest.mark.parametrize(("cut", "expected"), [(True, "True"), (False, "signal 7")])
def test_a_block_that_malloc_mapped_can_still_grow(cut: bool, expected: str) -> None:
    script = f"""
    block = bytearray(b"x" * (3 << 20))  # one mapping of its own, which realloc grows in place
    if not {cut}:
        frozen_heap._without_mapped_blocks = lambda area: [area]
    freeze()
    def grow():
        for _ in range(20):
            block.extend(bytes(32 << 20))
        return block.count(b"x") == 3 << 20
    print(in_child(grow))
    """
    assert _run(script) == expected


def test_memory_that_is_wiped_at_a_fork_still_is() -> None:
    script = """
    secret = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    secret[:] = b"s" * len(secret)
    start = ctypes.addressof(ctypes.c_char.from_buffer(secret))
    assert libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(len(secret)), 18) == 0  # MADV_WIPEONFORK
    freeze()
    print(in_child(lambda: secret[:].count(b"s")), secret[:].count(b"s"))
    """
    assert _run(script) == f"0 {64 * 4096}"


def test_where_no_file_can_be_made_nothing_is_moved_and_all_goes_on() -> None:
    script = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), 4096))
    held = list(range(1000))
    while True:  # until there is none left
        try:
            os.dup(0)
        except OSError:
            break
    print(frozen_heap.freeze(proc=proc), sum(held), in_child.__name__)
    """
    assert _run(script) == "0 499500 in_child"
