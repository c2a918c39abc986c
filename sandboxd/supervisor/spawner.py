"""Makes one guest ready: descriptors, fork, isolation, control group. Whatever fails leaves nothing."""

import asyncio
import itertools
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sandboxd.channel.orders import Spawn
from sandboxd.errors import GuestSetupFailed, SandboxdError
from sandboxd.isolation.plan import UID_BASE, UID_COUNT
from sandboxd.isolation.rlimits import ResourceLimits
from sandboxd.limits import MIB, Limits
from sandboxd.supervisor.cgroups import Cgroup, CgroupLimits, CgroupTree
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.zygote_process import ZygoteProcess

_ADDRESS_SPACE_SLACK = 100 * MIB
"""Mappings that cost no memory: thread stacks, guard pages, reserved arenas."""
_SPAWN_SECONDS = 20.0
_HOSTNAME = "sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestShape:
    """The limits that are set when a guest is made and can't be changed later."""

    memory_bytes: int
    open_files: int
    threads: int
    workspace_bytes: int
    workspace_inodes: int


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

    def __init__(self, *, cgroups: CgroupTree | None) -> None:
        self._cgroups = cgroups
        self._numbers = itertools.count(1)
        self._uids = itertools.cycle(range(1, UID_COUNT))
        self._used_uids: set[int] = set()
        # Attaching waits for an RCU grace period; back to back these are cheap, so a few threads do.
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="cgroup")
        self._removals: set[asyncio.Future[bool]] = set()

    async def spawn(self, zygote: ZygoteProcess, shape: GuestShape, *, cpu_percent: int) -> GuestProcess:
        """A guest that is locked down and waits for its configuration."""
        guest_id = next(self._numbers)
        uid = self._take_uid(zygote)
        try:
            group = await self._create_group(guest_id, shape, cpu_percent)
            try:
                return await self._spawn(zygote, shape, guest_id=guest_id, uid=uid, group=group)
            except BaseException:
                self._remove_group(group)
                raise
        except BaseException:
            self._used_uids.discard(uid)
            raise

    def apply_cpu(self, guest: GuestProcess, shape: GuestShape, *, cpu_percent: int) -> None:
        """Changes the CPU share of a guest made with another one."""
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

    async def _spawn(
        self, zygote: ZygoteProcess, shape: GuestShape, *, guest_id: int, uid: int, group: Cgroup | None
    ) -> GuestProcess:
        guest, descriptors = _open_guest(guest_id, uid)
        guest.cgroup = group
        order = Spawn(
            guest_id=guest_id,
            uid=uid if not uid or zygote.plan.user_namespace else UID_BASE + uid,
            limits=_resource_limits(zygote, shape),
            workspace_bytes=shape.workspace_bytes,
            workspace_inodes=shape.workspace_inodes,
            hostname=_HOSTNAME,
        )
        try:
            async with asyncio.timeout(_SPAWN_SECONDS):
                await zygote.spawn(order, guest, descriptors)
                await guest.ready()
                await self._attach(guest)
        except TimeoutError:
            guest.kill("not ready in time")
            raise GuestSetupFailed(step="start", problem=f"not ready within {_SPAWN_SECONDS:g} s") from None
        except (SandboxdError, asyncio.CancelledError):
            guest.kill("not needed")
            await _settled(guest)
            raise
        guest.when_gone(self._cleared)
        return guest

    async def _attach(self, guest: GuestProcess) -> None:
        if guest.cgroup is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, guest.cgroup.attach, guest.pid)
        except OSError as error:
            raise GuestSetupFailed(step="cgroup", problem=str(error)) from error

    def _cleared(self, guest: GuestProcess) -> None:
        self._used_uids.discard(guest.uid)
        self._remove_group(guest.cgroup)


async def _settled(guest: GuestProcess) -> None:
    await asyncio.wait([guest.exited], timeout=2)


def _group_limits(shape: GuestShape, cpu_percent: int) -> CgroupLimits:
    return CgroupLimits(
        # The workspace's pages are charged to the group, beside the memory of the guest itself.
        memory_bytes=shape.memory_bytes + shape.workspace_bytes,
        cpu_percent=cpu_percent,
    )


def _resource_limits(zygote: ZygoteProcess, shape: GuestShape) -> ResourceLimits:
    return ResourceLimits(
        data_bytes=zygote.base_data_bytes + shape.memory_bytes,
        address_space_bytes=zygote.base_address_space_bytes + shape.memory_bytes + _ADDRESS_SPACE_SLACK,
        open_files=shape.open_files,
        processes=shape.threads + 1,
        file_bytes=shape.workspace_bytes,
    )


def _open_guest(guest_id: int, uid: int) -> tuple[GuestProcess, list[int]]:
    """The host's half of the descriptors in a `GuestProcess`, the guest's half as numbers."""
    ours, theirs = socket.socketpair()
    opened = [ours.detach(), theirs.detach()]
    try:
        opened += os.pipe2(os.O_CLOEXEC)
        opened += os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise GuestSetupFailed(step="descriptors", problem=str(error)) from error
    channel, their_channel, stdout, their_stdout, stderr, their_stderr = opened
    guest = GuestProcess(
        guest_id=guest_id, uid=uid, channel=socket.socket(fileno=channel), stdout=stdout, stderr=stderr
    )
    return guest, [their_channel, their_stdout, their_stderr]
