"""Each step from fork to guest made to fail in turn: no user code runs, and nothing is left."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

from sandboxd.channel.orders import Spawn
from sandboxd.errors import GuestSetupFailed
from sandboxd.isolation.plan import IsolationPlan
from sandboxd.isolation.rlimits import ResourceLimits
from sandboxd.limits import DEFAULT_LIMITS
from sandboxd.supervisor.probing import probe_host
from sandboxd.supervisor.supervisor import Supervisor
from sandboxd.zygote.spawn import GuestDescriptors, GuestSetup
from tests.support.leftovers import Leftovers
from tests.support.serving import serving


def _plan(*, own_map: bool) -> IsolationPlan:
    return IsolationPlan(
        user_namespace=True,
        mapped_uids=1 if own_map else 65_536,
        namespaces=True,
        uid_per_guest=not own_map,
        superuser=not own_map,
        landlock_abi=7,
        seccomp=True,
        fork_gate=True,
        cgroup_version=0,
    )


def _step_names(*, own_map: bool) -> list[str]:
    return [name for name, _ in GuestSetup(plan=_plan(own_map=own_map), proc=-1).steps]


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    isolation = await asyncio.to_thread(probe_host)
    made = Supervisor(
        isolation=isolation, default_limits=DEFAULT_LIMITS, pool_size=0, zygote_max_age=timedelta(hours=1)
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def test_every_layer_has_a_step_and_the_filter_is_last() -> None:
    names = _step_names(own_map=False)
    assert len(set(names)) == len(names) == 14
    assert names[-1] == "seccomp"
    assert names.index("credentials") < names.index("parent_death")  # a change of ids clears the signal
    assert names.index("workspace") < names.index("landlock")
    assert {"user_namespace", "bounding_set"} <= set(_step_names(own_map=True))


def test_a_guest_without_a_user_id_of_its_own_is_refused() -> None:
    setup = GuestSetup(plan=_plan(own_map=False), proc=-1)
    limits = ResourceLimits(data_bytes=0, address_space_bytes=0, open_files=0, processes=0, file_bytes=0)
    order = Spawn(guest_id=1, uid=0, limits=limits, workspace_bytes=0, workspace_inodes=0, hostname="")
    with pytest.raises(OSError, match="no user id"):
        dict(setup.steps)["credentials"](setup, order, GuestDescriptors(-1, -1, -1))


async def test_a_guest_whose_step_fails_is_never_given_out(supervisor: Supervisor) -> None:
    await _fail_every_step(supervisor)
    once = await _settled()
    await _fail_every_step(supervisor)
    twice = await _settled()
    assert twice.descriptors <= once.descriptors
    assert (twice.processes, twice.cgroups, twice.mounts) == (once.processes, once.cgroups, once.mounts)
    supervisor._spawner.fault_step = ""
    guest = await supervisor.acquire(DEFAULT_LIMITS)
    assert guest.alive


async def _fail_every_step(supervisor: Supervisor) -> None:
    for name in _step_names(own_map=False):
        supervisor._spawner.fault_step = name
        with pytest.raises(GuestSetupFailed) as failed:
            await supervisor.acquire(DEFAULT_LIMITS)
        assert failed.value.step == name
        assert f"step {name} was made to fail" in failed.value.problem


async def test_ten_failures_in_a_row_and_the_next_guest_is_made(supervisor: Supervisor) -> None:
    supervisor._spawner.fault_step = "landlock"
    for _ in range(10):
        with pytest.raises(GuestSetupFailed):
            await supervisor.acquire(DEFAULT_LIMITS)
    supervisor._spawner.fault_step = ""
    assert (await supervisor.acquire(DEFAULT_LIMITS)).alive


async def test_a_control_group_that_cannot_be_made_fails_the_guest(supervisor: Supervisor) -> None:
    tree = supervisor._isolation.cgroups
    if tree is None:
        pytest.skip("no control groups on this host")
    roots, tree._roots = tree._roots, {name: root / "gone" for name, root in tree._roots.items()}
    with pytest.raises(GuestSetupFailed) as failed:
        await supervisor.acquire(DEFAULT_LIMITS)
    tree._roots = roots
    assert failed.value.step == "cgroup"
    assert (await supervisor.acquire(DEFAULT_LIMITS)).alive


@pytest.mark.parametrize("uid", [0, 20_000])
def test_the_service_stays_up_and_says_that_nothing_was_run(uid: int) -> None:
    step = "user_namespace" if uid else "seccomp"
    with serving(fault_step=step, uid=uid) as server:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as failed:
                server.quick("open('/workspace/ran', 'w')")
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert step in failed.value.details()
            assert "made to fail" not in failed.value.details()  # what went wrong is for the log
        assert server.process.poll() is None


async def _settled() -> Leftovers:
    for _ in range(50):
        now = Leftovers.of(os.getpid())
        await asyncio.sleep(0.1)
        if now == Leftovers.of(os.getpid()) and not now.zombies:
            return now
    raise AssertionError("never comes to rest")
