"""Makes one guest ready: descriptors, fork, isolation, control group. Whatever fails leaves nothing."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor

import structlog

from sandboxd.channel.orders import Spawn
from sandboxd.errors import GuestSetupFailed, SandboxdError
from sandboxd.isolation.plan import UID_BASE, UID_COUNT
from sandboxd.isolation.rlimits import ResourceLimits
from sandboxd.limits import MIB, Limits
from sandboxd.supervisor.cgroup_tree import CgroupTree
from sandboxd.supervisor.cgroups import Cgroup, CgroupLimits
from sandboxd.supervisor.copying import Sequel, copy_guest, open_guest
from sandboxd.supervisor.family import MOST_PROCESSES, Family, GuestShape
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.waiting import first_of
from sandboxd.supervisor.zygote_process import ZygoteProcess

_log = structlog.get_logger(__name__)

_ADDRESS_SPACE_SLACK = 100 * MIB
"""Mappings that cost no memory: thread stacks, guard pages, reserved arenas."""
_SPAWN_SECONDS = 20.0
_HOSTNAME = "sandbox"


def shape_of(limits: Limits) -> GuestShape:
    """The part of `limits` that is fixed at the fork."""
    return GuestShape(
        memory_bytes=limits.memory_bytes,
        open_files=limits.open_files,
        threads=limits.threads,
        workspace_bytes=limits.workspace_bytes,
        workspace_inodes=limits.workspace_inodes,
    )


class Spawner:
    """Owns the numbering of guests and their user ids, and the threads that wait for control groups."""

    def __init__(self, *, cgroups: CgroupTree | None, fault_step: str = "") -> None:
        self._cgroups = cgroups
        self.fault_step = fault_step
        """A set-up step of every guest that is to fail; only tests set one."""
        self._numbers = itertools.count(1)
        self._uids = itertools.cycle(range(1, UID_COUNT))
        self._used_uids: set[int] = set()
        # Attaching waits for an RCU grace period; back to back these are cheap, so a few threads do.
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="cgroup")
        self._removals: set[asyncio.Future[bool]] = set()

    async def spawn(self, zygote: ZygoteProcess, shape: GuestShape, *, cpu_percent: int) -> GuestProcess:
        """A guest that is locked down and waits for its configuration."""
        family = Family(
            number=next(self._numbers),
            uid=self._take_uid(zygote),
            zygote=zygote,
            shape=shape,
            release=self._released,
        )
        family.cpu_percent = cpu_percent
        try:
            family.cgroup = await self._create_group(family.number, shape, cpu_percent)
            guest = await self._spawn(zygote, shape, family)
        except BaseException as error:
            if isinstance(error, GuestSetupFailed):
                _log.error("guest.setup_failed", step=error.step, problem=error.problem)
            if not family.members:
                family.close()
            raise
        return guest

    async def copy(self, guest: GuestProcess, *, sequel: Sequel | None = None) -> GuestProcess:
        """A copy of an idle guest that waits for messages; `CopyFailed` leaves nothing."""
        return await copy_guest(guest, next(self._numbers), sequel=sequel)

    def apply_cpu(self, guest: GuestProcess, shape: GuestShape, *, cpu_percent: int) -> None:
        """Changes the CPU share of a guest made with another one."""
        guest.family.cpu_percent = cpu_percent
        if guest.cgroup:
            guest.cgroup.limit(_group_limits(shape, cpu_percent))

    async def close(self) -> None:
        """Waits until the control groups are gone."""
        if self._removals:
            await asyncio.wait(self._removals, timeout=5)
        if self._cgroups:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._cgroups.remove)
        self._threads.shutdown(wait=False)

    def _take_uid(self, zygote: ZygoteProcess) -> int:
        if not zygote.plan.uid_per_guest:
            return 0
        uid = next(number for number in self._uids if number not in self._used_uids)
        self._used_uids.add(uid)
        # Inside a user namespace ids count from its own zero.
        return uid

    async def _create_group(self, guest_id: int, shape: GuestShape, cpu_percent: int) -> Cgroup | None:
        if self._cgroups is None:
            return None
        limits = _group_limits(shape, cpu_percent)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._threads, self._cgroups.create, f"guest-{guest_id}", limits
            )
        except OSError as error:
            raise GuestSetupFailed(step="cgroup", problem=str(error)) from error

    def _remove_group(self, group: Cgroup | None) -> None:
        if group is not None:
            removal = asyncio.get_running_loop().run_in_executor(self._threads, group.remove)
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)

    async def _spawn(self, zygote: ZygoteProcess, shape: GuestShape, family: Family) -> GuestProcess:
        guest, descriptors = open_guest(family.number, family)
        order = Spawn(
            guest_id=guest.guest_id,
            uid=family.uid if not family.uid or zygote.plan.user_namespace else UID_BASE + family.uid,
            limits=_resource_limits(zygote, shape),
            workspace_bytes=shape.workspace_bytes,
            workspace_inodes=shape.workspace_inodes,
            hostname=_HOSTNAME,
            fault_step=self.fault_step,
        )
        try:
            async with asyncio.timeout(_SPAWN_SECONDS):
                await zygote.spawn(order, guest, descriptors)
                await guest.ready()
                await self._attach(guest)
                family.allow_tasks(guest)
        except TimeoutError:
            guest.kill("not ready in time")
            raise GuestSetupFailed(step="start", problem=f"not ready within {_SPAWN_SECONDS:g} s") from None
        except (SandboxdError, asyncio.CancelledError):
            guest.kill("not needed")
            await _settled(guest)
            raise
        return guest

    async def _attach(self, guest: GuestProcess) -> None:
        if guest.cgroup is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, guest.cgroup.attach, guest.pid)
        except OSError as error:
            raise GuestSetupFailed(step="cgroup", problem=str(error)) from error

    def _released(self, family: Family) -> None:
        """The last guest of a family is gone: its group must be empty, then group and id are free."""
        if family.cgroup is not None:
            family.sweep_strays()
        self._used_uids.discard(family.uid)
        self._remove_group(family.cgroup)


async def _settled(guest: GuestProcess) -> None:
    await first_of(guest.exited, seconds=2)


def _group_limits(shape: GuestShape, cpu_percent: int) -> CgroupLimits:
    return CgroupLimits(
        # What the guest may have, once more for the states that are kept of it, and the workspace, whose
        # pages are charged to the group. The guest alone is held by its resource limits.
        memory_bytes=2 * shape.memory_bytes + shape.workspace_bytes,
        cpu_percent=cpu_percent,
    )


def _resource_limits(zygote: ZygoteProcess, shape: GuestShape) -> ResourceLimits:
    return ResourceLimits(
        data_bytes=zygote.base_data_bytes + shape.memory_bytes,
        address_space_bytes=zygote.base_address_space_bytes + shape.memory_bytes + _ADDRESS_SPACE_SLACK,
        open_files=shape.open_files,
        processes=shape.threads + 1 if zygote.plan.counts_tasks_apart else 0,
        most_processes=MOST_PROCESSES if zygote.plan.fork_gate else 0,
        file_bytes=shape.workspace_bytes,
    )
