"""Programs that take what they can: memory, CPU, threads, files, output. Kernel or host hold them."""

import time

import pytest

from tests.support.control import unconfined
from tests.support.serving import Answer, Serving, serving

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def by_signals() -> "Serving":  # type: ignore[misc]
    """A server without control groups: memory by resource limits, CPU by stopping and continuing."""
    with serving(without_layers=["cgroups"]) as server:
        yield server


@pytest.fixture(params=["cgroups", "signals"])
def limited(request: pytest.FixtureRequest) -> Serving:
    """A server with control groups, and one without."""
    name = "server" if request.param == "cgroups" else "by_signals"
    found: Serving = request.getfixturevalue(name)
    return found


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("x = bytearray(1 << 30)", id="bytearray"),
        pytest.param("x = [0] * 10**9", id="list"),
        pytest.param("x = 'x' * (1 << 30)", id="text"),
        pytest.param("import numpy as np\nx = np.ones(10**8)", id="numpy"),
        pytest.param("x = []\nwhile True: x.append(bytearray(1 << 20))", id="many_small"),
        pytest.param(
            "import mmap\nx = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)", id="mmap"
        ),
        pytest.param(
            "import mmap, os\nfd = os.open('/dev/zero', os.O_RDONLY)\n"
            "x = mmap.mmap(fd, 1 << 30, prot=mmap.PROT_READ)\nsum(x[::4096])",
            id="shared_zero_pages",
        ),
    ],
)
def test_memory_beyond_the_limit_is_refused(limited: Serving, code: str) -> None:
    sandbox = limited.create(memory_bytes=64 * MIB)
    answer = limited.run(
        sandbox, f"try:\n    exec({code!r})\nexcept OSError as error:\n    raise MemoryError(error)"
    )
    assert answer.failure == "OUT_OF_MEMORY", answer.describe()
    assert limited.run(sandbox, "print(1)").stdout == "1"
    limited.delete(sandbox)


def test_memory_is_given_without_the_limit() -> None:
    assert unconfined("print(len(bytearray(1 << 30)))") == str(1 << 30)


def test_a_guest_that_fills_its_memory_and_its_workspace_stays_below_their_sum(server: Serving) -> None:
    answer = server.quick(
        "kept = []\n"
        "try:\n"
        "    while True: kept.append(bytearray(1 << 20))\n"
        "except MemoryError: pass\n"
        "try:\n"
        "    with open('/workspace/f', 'wb') as file:\n"
        "        while True: file.write(bytes(1 << 16))\n"
        "except OSError as error: print(error.errno)",
        memory_bytes=64 * MIB,
        workspace_bytes=16 * MIB,
    )
    assert answer.stdout in ("28", "27"), answer.describe()
    assert answer.result.usage.peak_memory_bytes < 1.1 * (64 + 16) * MIB


def test_a_workspace_full_of_files_or_bytes_says_so(server: Serving) -> None:
    code = (
        "import os\n"
        "try:\n"
        "    for n in range(100_000): open(f'/workspace/{n}', 'w').close()\n"
        "except OSError as error: print(error.errno, n < 4096)"
    )
    assert server.output(code) == "28 True"
    sparse = (
        "import os\nfd = os.open('/workspace/f', os.O_CREAT | os.O_RDWR)\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: os.truncate('/workspace/f', 1 << 40)\nexcept OSError as error: print(error.errno)"
    )
    assert server.output(sparse) == "27"


def test_ten_threads_beside_the_main_one_and_no_more(limited: Serving) -> None:
    code = (
        "import threading\n"
        "stop = threading.Event(); started = 0\n"
        "try:\n"
        "    for _ in range(40): threading.Thread(target=stop.wait).start(); started += 1\n"
        "except RuntimeError: pass\n"
        "stop.set(); print(started)"
    )
    assert limited.output(code) == "10"
    assert limited.output(code, threads=3) == "3"
    assert unconfined(code) == "40"


def test_open_files_end_at_the_limit(server: Serving) -> None:
    code = (
        "import os\nopened = 0\n"
        "try:\n"
        "    while True: os.dup(1); opened += 1\n"
        "except OSError as error: print(opened, error.errno)"
    )
    assert server.output(code) == "96 24"
    assert server.output(code, open_files=32) == "28 24"


def test_limits_cannot_be_raised_from_inside(server: Serving) -> None:
    code = (
        "import resource\n"
        "for name in ('RLIMIT_DATA', 'RLIMIT_AS', 'RLIMIT_NPROC', 'RLIMIT_NOFILE', 'RLIMIT_FSIZE'):\n"
        "    kind = getattr(resource, name)\n"
        "    try: resource.setrlimit(kind, (resource.RLIM_INFINITY,) * 2); print(name)\n"
        "    except (ValueError, OSError): pass"
    )
    assert server.output(code) == ""


@pytest.mark.parametrize("share", [25, 50])
def test_a_busy_guest_gets_its_share_of_a_core(limited: Serving, share: int) -> None:
    answer = limited.quick(
        "import time\nend = time.monotonic() + 2.5\nwhile time.monotonic() < end: pass", cpu_percent=share
    )
    assert answer.cpu_seconds / answer.wall_seconds < share / 100 + 0.06, (
        answer.cpu_seconds,
        answer.wall_seconds,
    )
    assert answer.cpu_seconds > 0.1


def test_busy_threads_together_get_one_share(limited: Serving) -> None:
    answer = limited.quick(
        "import hashlib, threading, time\n"
        "end = time.monotonic() + 2.5\n"
        "block = bytes(1 << 22)\n"
        "def burn():\n"
        "    while time.monotonic() < end: hashlib.sha256(block).digest()\n"
        "threads = [threading.Thread(target=burn) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()",
    )
    assert answer.cpu_seconds / answer.wall_seconds < 0.6, (answer.cpu_seconds, answer.wall_seconds)


def test_a_thread_that_outlives_its_execution_is_held_too(limited: Serving) -> None:
    sandbox = limited.create()
    limited.run(
        sandbox,
        "import threading, time\n"
        "start = time.process_time(), time.monotonic()\n"
        "def burn():\n"
        "    while True: pass\n"
        "threading.Thread(target=burn, daemon=True).start()",
    )
    time.sleep(2.0)
    answer = limited.run(sandbox, "print((time.process_time() - start[0]) / (time.monotonic() - start[1]))")
    assert float(answer.stdout) < 0.62
    limited.delete(sandbox)


@pytest.mark.parametrize("stream", [1, 2])
def test_a_flood_of_output_ends_the_run_and_names_the_limit(server: Serving, stream: int) -> None:
    answer = server.quick(f"import os\nwhile True: os.write({stream}, b'x' * 65536)", seconds=20)
    assert (answer.state, answer.failure, answer.limit) == ("FAILED", "LIMIT_EXCEEDED", "OUTPUT")
    kept = (answer.result.stdout, answer.result.stderr)[stream - 1]
    assert len(kept.data) == MIB
    assert kept.truncated
    assert kept.total_bytes > 64 * MIB


def test_one_byte_writes_are_bounded_by_the_clock(server: Serving) -> None:
    answer = server.quick("import os\nwhile True: os.write(1, b'x')", seconds=2)
    assert answer.state == "TIMED_OUT"
    assert server.output("print(1)") == "1"


def test_a_result_beyond_the_limit_is_cut_and_marked(server: Serving) -> None:
    for value in ("'x' * (50 << 20)", "list(range(3_000_000))", "b'x' * (50 << 20)"):
        answer = server.quick(f"__result__ = {value}", seconds=20, cpu_percent=100)
        assert answer.state == "SUCCEEDED", answer.describe()
        assert answer.result.value_truncated
        assert answer.execution.ByteSize() < 2 * MIB


def test_log_entries_beyond_the_limit_are_dropped_and_counted(server: Serving) -> None:
    answer: Answer = server.quick(
        "for n in range(3000): debug('x' * 1000, 'INFO')", debugging=True, log_bytes=100_000, cpu_percent=100
    )
    assert answer.state == "SUCCEEDED", answer.describe()
    assert sum(len(entry.message) for entry in answer.result.log_entries) <= 100_000
    assert answer.result.dropped_log_entry_count > 2800
