"""The order to copy, and guests that do not keep to it: nothing of theirs survives."""

import asyncio
import contextlib
import gc
import os
import socket
import weakref
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from sandboxd.channel.framing import encode_frame
from sandboxd.channel.messages import (
    Configure,
    Copied,
    Finished,
    GuestMessage,
    LanguageRules,
    Restore,
    Restored,
    Run,
)
from sandboxd.errors import CopyFailed
from sandboxd.limits import Limits
from sandboxd.supervisor.cgroups import CgroupLimits
from sandboxd.supervisor.copying import open_guest
from sandboxd.supervisor.family import Family
from sandboxd.supervisor.guest_exit import GuestExit, OutputStream
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.probing import CGROUPS, probe_host
from sandboxd.supervisor.supervisor import Supervisor
from tests.support.control import unconfined
from tests.support.leftovers import wait_until

_RULES = LanguageRules(restricted=False, allowed_modules=[], blocked_modules=[], blocked_builtins=[])
_CONFIGURATION = Configure(rules=_RULES, enable_debugging=False, result_bytes=1 << 20, log_bytes=1 << 20)
_FORK = "import os\ntry:\n    pid = os.fork()\nexcept OSError as error:\n    print('refused', error.errno)\n"


_ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
_GROUPS_ONLY = pytest.mark.parametrize("supervisor", ["with control groups"], indirect=True, scope="module")


class _Answer:
    """Takes the one answer to a message, and what was written meanwhile."""

    def __init__(self) -> None:
        self.future: asyncio.Future[GuestMessage] = asyncio.get_running_loop().create_future()
        self.text = b""

    def message(self, message: GuestMessage) -> None:
        if isinstance(message, Finished | Restored) and not self.future.done():
            self.future.set_result(message)

    def output(self, stream: OutputStream, data: bytes) -> None:
        self.text += data


async def _ask(guest: GuestProcess, message: Run | Restore) -> tuple[GuestMessage | GuestExit, str]:
    answer = _Answer()
    guest.listen(answer)
    guest.send(message)
    await guest.until(answer.future)
    if not guest.exited.done():
        guest.drain_output()
    guest.listen(None)
    said = answer.future.result() if answer.future.done() else guest.exited.result()
    return said, answer.text.decode().strip()


async def _run(guest: GuestProcess, source: str) -> tuple[GuestMessage | GuestExit, str]:
    return await _ask(guest, Run(run_id=1, source=source, label="<test>"))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["with control groups", "without"])
async def supervisor(request: pytest.FixtureRequest) -> AsyncIterator[Supervisor]:
    without = frozenset({CGROUPS}) if request.param == "without" else frozenset[str]()
    isolation = probe_host(without=without)
    if request.param == "with control groups" and isolation.cgroups is None:
        pytest.skip("kernel: no usable control groups")
    one = Supervisor(
        isolation=isolation, default_limits=Limits(), pool_size=1, zygote_max_age=timedelta(hours=1)
    )
    if one.checkpoints_missing:
        pytest.skip(f"kernel: {one.checkpoints_missing}")
    await one.start()
    try:
        yield one
    finally:
        await one.close()
        if isolation.cgroups is not None:
            isolation.cgroups.remove()


@pytest_asyncio.fixture(loop_scope="module")
async def guest(supervisor: Supervisor) -> AsyncIterator[GuestProcess]:
    one = await supervisor.acquire(Limits())
    one.accept_frames_of(1 << 20)
    one.send(_CONFIGURATION)
    family = one.family
    _SUPERVISORS[family] = supervisor
    try:
        yield one
    finally:
        members = list(family.members)
        for member in members:
            member.kill("the test is over")
        if members:
            await asyncio.wait([member.exited for member in members], timeout=5)
        del _SUPERVISORS[family]
        assert not family.members
        assert not family._pids()


_SUPERVISORS: dict[Family, Supervisor] = {}


async def _copy(guest: GuestProcess) -> GuestProcess:
    return await _SUPERVISORS[guest.family].copy(guest)


@_ON_ONE_LOOP
async def test_copy_outlives_its_original_and_has_its_state(guest: GuestProcess) -> None:
    await _run(guest, "x = 41")
    copy = await _copy(guest)
    await _run(guest, "x = 0")
    said, _ = await _run(guest, "import os; os._exit(7)")
    assert isinstance(said, GuestExit)
    assert said.exit_code == 7
    await _ask(copy, Restore(request_id=1))
    assert (await _run(copy, "print(x)"))[1] == "41"


@_ON_ONE_LOOP
async def test_end_of_a_copy_is_told_as_it_was(guest: GuestProcess) -> None:
    ends = {"import os; os._exit(3)": (3, ""), "import ctypes; ctypes.string_at(0)": (None, "SIGSEGV")}
    for source, expected in ends.items():
        copy = await _copy(guest)
        await _ask(copy, Restore(request_id=1))
        said, _ = await _run(copy, source)
        assert isinstance(said, GuestExit)
        assert (said.exit_code, said.signal_name) == expected


@_ON_ONE_LOOP
async def test_fork_by_user_code_is_refused_and_counted(guest: GuestProcess) -> None:
    assert (await _run(guest, _FORK))[1] == "refused 1"
    copy = await _copy(guest)
    await _ask(copy, Restore(request_id=1))
    assert (await _run(copy, _FORK))[1] == "refused 1"
    assert guest.gate is not None
    assert guest.gate.refused_count == 2
    assert len(guest.family._pids()) == 2


def test_fork_by_an_ordinary_process_works() -> None:
    assert unconfined("import os\nif os.fork() == 0: os._exit(0)\nprint('forked')") == "forked"


@_ON_ONE_LOOP
async def test_copy_is_made_without_the_fork_hooks_of_user_code(guest: GuestProcess) -> None:
    hooks = "before=lambda: ran.append(1), after_in_child=lambda: ran.append(2)"
    await _run(guest, f"import os\nran = []\nos.register_at_fork({hooks})")
    copy = await _copy(guest)
    await _ask(copy, Restore(request_id=1))
    for process in (guest, copy):
        assert (await _run(process, "print(ran)"))[1] == "[]"


def test_fork_hooks_run_at_an_ordinary_fork() -> None:
    hook = "import os\nos.register_at_fork(before=lambda: print('ran', flush=True))\n"
    assert unconfined(f"{hook}if os.fork() == 0: os._exit(0)") == "ran"


@_ON_ONE_LOOP
async def test_guest_that_hides_its_copy_is_swept(guest: GuestProcess) -> None:
    # User code replaces the function that the order runs: the fork is let through, the child says nothing.
    hide = """
import os, time
from sandboxd.guest import copies
def hide(session, order, descriptors):
    if os.fork() == 0:
        for number in range(3, 20):
            try: os.close(number)
            except OSError: pass
        while True: time.sleep(1)
    for descriptor in descriptors: os.close(descriptor)
copies._fork = hide
"""
    await _run(guest, hide)
    with pytest.raises(CopyFailed):
        await _copy(guest)
    for _ in range(200):
        if len(guest.family._pids()) <= 1:
            break
        await asyncio.sleep(0.02)
    assert guest.family._pids() in ([guest.pid], [])


@_ON_ONE_LOOP
async def test_guest_that_forks_twice_on_one_order_gets_one(guest: GuestProcess) -> None:
    twice = """
import os
from sandboxd.guest import copies
real = copies._become_copy
def twice(session, order, descriptors):
    try:
        os.fork()
    except OSError as error:
        session.namespace['second'] = error.errno
    real(session, order, descriptors)
copies._become_copy = twice
"""
    await _run(guest, twice)
    copy = await _copy(guest)
    await _ask(copy, Restore(request_id=1))
    assert (await _run(copy, "print(second)"))[1] == "1"
    assert sorted(guest.family._pids()) == sorted([guest.pid, copy.pid])


@_ON_ONE_LOOP
async def test_guest_that_greets_in_its_copys_name_is_not_believed(guest: GuestProcess) -> None:
    forge = """
import socket
from sandboxd.channel.framing import encode_frame
from sandboxd.channel.messages import Copied
from sandboxd.guest import copies
def forge(session, order, descriptors):
    socket.socket(fileno=descriptors[0]).sendall(encode_frame(Copied(fork_id=order.fork_id)))
copies._fork = forge
"""
    await _run(guest, forge)
    with pytest.raises(CopyFailed):
        await _copy(guest)
    assert guest.family._pids() in ([guest.pid], [])


@_ON_ONE_LOOP
async def test_guest_without_free_descriptors_refuses_and_goes_on(guest: GuestProcess) -> None:
    await _run(
        guest, "x = 5\nkept = []\ntry:\n    while True: kept.append(open('/dev/null'))\nexcept OSError: pass"
    )
    with pytest.raises(CopyFailed):
        await _copy(guest)
    await _run(guest, "kept.clear()")
    copy = await _copy(guest)
    await _ask(copy, Restore(request_id=1))
    assert (await _run(copy, "print(x)"))[1] == "5"


@_ON_ONE_LOOP
async def test_guest_killed_while_it_copies_leaves_nothing(guest: GuestProcess) -> None:
    await _run(guest, "big = [str(number) for number in range(300_000)]")
    first = await _copy(guest)
    for pause in (0.0, 0.001, 0.002, 0.005, 0.01, 0.02):
        session = await _copy(first)
        await _ask(session, Restore(request_id=1))
        order = asyncio.ensure_future(_copy(session))
        await asyncio.sleep(pause)
        session.kill("test")
        with contextlib.suppress(CopyFailed):
            copy = await order
            await _ask(copy, Restore(request_id=2))
            assert (await _run(copy, "print(len(big))"))[1] == "300000"
            copy.kill("test")
            await copy.exited
        await session.exited
    await asyncio.sleep(0.2)
    assert sorted(guest.family._pids()) == sorted([guest.pid, first.pid])


@_ON_ONE_LOOP
async def test_cancelled_order_leaves_nothing(guest: GuestProcess) -> None:
    for pause in (0.0, 0.001, 0.004, 0.01):
        order = asyncio.ensure_future(_copy(guest))
        await asyncio.sleep(pause)
        order.cancel()
        # A guest that is late takes the next order's leave for the cancelled one, and then has none for that.
        with contextlib.suppress(asyncio.CancelledError, CopyFailed):
            (await order).kill("test")
    await asyncio.sleep(2.5)  # the last look for a process that was not born when the first was taken
    assert guest.family._pids() == [guest.pid]


@_ON_ONE_LOOP
async def test_copy_given_up_while_its_greeting_waits_ends_once(guest: GuestProcess) -> None:
    copy, theirs = open_guest(77, guest.family, copy_of=guest)
    with socket.socket(fileno=theirs[0]) as channel:
        channel.send(encode_frame(Copied(fork_id=77)))
        copy.kill("nobody wants it any more")
    for descriptor in theirs[1:]:
        os.close(descriptor)
    assert (await copy.exited).killed_for == "nobody wants it any more"


@_ON_ONE_LOOP
async def test_order_that_is_cancelled_when_the_copy_has_greeted_leaves_nothing(guest: GuestProcess) -> None:
    # This used to end with an InvalidStateError, and the copy lived on with nobody to end it.
    order = asyncio.ensure_future(_copy(guest))
    while len(guest.family._pids()) < 2:
        await asyncio.sleep(0)  # the fork gate answers
    (copy,) = set(guest.family._pids()) - {guest.pid}
    wait_until(lambda: _receives(copy), seconds=5, what="it has said its first word, which nobody reads")
    order.cancel()
    with pytest.raises(asyncio.CancelledError):
        await order
    await asyncio.sleep(0.5)
    assert guest.family._pids() == [guest.pid]


def _receives(pid: int) -> bool:
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().startswith("47 ")  # recvmsg, of asm/unistd_64.h


@_GROUPS_ONLY
@_ON_ONE_LOOP
async def test_memory_shortage_ends_the_kept_states_first(guest: GuestProcess) -> None:
    assert guest.cgroup is not None
    await _run(guest, "import numpy as np; big = np.ones(4_000_000)")
    copies = [await _copy(guest) for _ in range(3)]
    guest.cgroup.limit(CgroupLimits(memory_bytes=48 << 20, cpu_percent=100))
    said, text = await _run(guest, "big += 1; more = np.ones(4_000_000); print(int(more.sum()))")
    assert isinstance(said, Finished)
    assert text == "4000000"
    ended, _ = await asyncio.wait(
        [copy.exited for copy in copies], return_when=asyncio.FIRST_COMPLETED, timeout=5
    )
    assert ended
    assert [exited.result() for exited in ended if not exited.result().oom_killed] == []


@_GROUPS_ONLY
@_ON_ONE_LOOP
async def test_memory_shortage_ends_no_more_copies_than_needed(guest: GuestProcess) -> None:
    assert guest.cgroup is not None
    if guest.cgroup.version != 1:
        pytest.skip("kernel: no control group of version 1")
    await _run(guest, "import numpy as np; big = np.ones(4_000_000)")
    kept = await _copy(guest)
    await _run(guest, "big += 1")
    outdated = await _copy(guest)  # each holds 32 MB that nobody shares
    await _run(guest, "big += 1")
    asked = await _copy(guest)
    guest.family.outdate(outdated)
    guest.family.expend(asked)
    guest.cgroup.limit(CgroupLimits(memory_bytes=84 << 20, cpu_percent=100))
    said, text = await _run(guest, "big += 1; print(int(big[0]))")
    assert (isinstance(said, Finished), text) == (True, "4")
    assert (kept.alive, outdated.alive, asked.alive) == (True, True, False)
    said, text = await _run(guest, "more = np.ones(4_000_000); print(int(more[0]))")
    assert (isinstance(said, Finished), text) == (True, "1")
    assert (kept.alive, outdated.alive) == (True, False)


@_GROUPS_ONLY
@_ON_ONE_LOOP
async def test_memory_beyond_the_limit_ends_the_session_after_its_copies(guest: GuestProcess) -> None:
    assert guest.cgroup is not None
    copies = [await _copy(guest) for _ in range(2)]
    guest.cgroup.limit(CgroupLimits(memory_bytes=16 << 20, cpu_percent=100))
    said, _ = await _run(guest, "import numpy as np; big = np.ones(20_000_000)")
    assert isinstance(said, GuestExit)
    assert said.oom_killed
    assert [copy.alive for copy in copies] == [False, False]


@_GROUPS_ONLY
@_ON_ONE_LOOP
async def test_killer_stays_held_while_the_last_copies_end(guest: GuestProcess) -> None:
    assert guest.cgroup is not None
    if guest.cgroup.version != 1:
        pytest.skip("kernel: no control group of version 1")
    copies = [await _copy(guest) for _ in range(2)]
    for copy in copies:
        copy.kill("not needed")
    guest.family._shortages._end_one()  # what they free may be enough for who waits now
    assert "oom_kill_disable 1" in guest.cgroup._oom_path.read_text()
    await asyncio.wait([copy.exited for copy in copies])
    await asyncio.sleep(0)
    assert "oom_kill_disable 0" in guest.cgroup._oom_path.read_text()


@_ON_ONE_LOOP
async def test_guest_that_has_ended_is_let_go_without_a_collection(supervisor: Supervisor) -> None:
    guest = await supervisor.acquire(Limits())
    guest.send(_CONFIGURATION)
    await _run(guest, "1 + 1")
    copy = await supervisor.copy(guest)
    held = [weakref.ref(guest), weakref.ref(copy)]
    gc.disable()
    try:
        for process in (copy, guest):
            process.kill("not needed")
            await process.exited
        del process, copy, guest
        await asyncio.sleep(0.1)  # callbacks of its descriptors, the report of the zygote
        assert [each() for each in held] == [None, None]
    finally:
        gc.enable()


@_ON_ONE_LOOP
async def test_scores_of_the_out_of_memory_killer(guest: GuestProcess) -> None:
    copy = await _copy(guest)

    def score(of: GuestProcess) -> int:
        with open(f"/proc/{of.pid}/oom_score_adj") as file:
            return int(file.read())

    before = score(guest)
    assert score(copy) > before
    guest.family.unpark(copy)
    assert score(copy) <= max(before, 0)
    assert os.path.exists(f"/proc/{copy.pid}")
