"""Owns every process below the host: the zygote, its replacement, the pool of ready guests."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import timedelta

import structlog

from sandboxd.errors import SandboxdError, Unavailable, ZygoteUnavailable
from sandboxd.isolation.plan import Grade
from sandboxd.limits import MIB, Limits
from sandboxd.supervisor import greetings
from sandboxd.supervisor.copying import Sequel
from sandboxd.supervisor.cpu_controller import CpuController
from sandboxd.supervisor.family import GuestShape
from sandboxd.supervisor.guest_process import GuestProcess
from sandboxd.supervisor.pool import GuestPool
from sandboxd.supervisor.probing import HostIsolation, LayerReport
from sandboxd.supervisor.spawner import Spawner, shape_of
from sandboxd.supervisor.zygote_process import ZygoteProcess

_log = structlog.get_logger(__name__)

_RESTART_PAUSE_SECONDS = 0.2
_LONGEST_RESTART_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 1.0
"""How often the zygote's life and age are looked at."""
_ZYGOTE_WAIT_SECONDS = 10.0
_FEWEST_SPAWNS_TO_REPLACE = 100
"""An old zygote that made few guests is no prize for an attacker and dear to replace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStatus:
    """What the supervisor holds at this moment."""

    ready_guests: int
    live_guests: int
    zygote_count: int
    zygote_age_seconds: float
    zygote_alive: bool
    aged_zygotes: int
    """Replaced because of their age."""
    dead_zygotes: int
    """Replaced because they had died."""
    silent_zygotes: int
    """Replaced because they no longer answered."""


class Supervisor:
    """Starts and replaces zygotes and gives out guests. The only owner of processes, the only one that
    ends them; all of it on one event loop."""

    def __init__(
        self,
        *,
        isolation: HostIsolation,
        default_limits: Limits,
        pool_size: int,
        zygote_max_age: timedelta,
        fault_step: str = "",
    ) -> None:
        self._isolation = isolation
        self._default_limits = default_limits
        self._default_shape = shape_of(default_limits)
        self._zygote_max_age = zygote_max_age.total_seconds()
        self._spawner = Spawner(cgroups=isolation.cgroups, fault_step=fault_step)
        self._pool = GuestPool(self._make_default, size=pool_size)
        self._zygote: ZygoteProcess | None = None
        self._retiring: set[ZygoteProcess] = set()
        self._aged_zygotes = 0
        self._dead_zygotes = 0
        self._silent_zygotes = 0
        self._have_zygote = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._cpu_controller: asyncio.Task[None] | None = None
        self._knows_senders = greetings.knows_senders()
        self._versions: tuple[str, dict[str, str]] = ("", {})

    @property
    def grade(self) -> Grade:
        """Strength of the isolation guests get."""
        return self._isolation.grade

    @property
    def layers(self) -> tuple[LayerReport, ...]:
        """Every layer as probed at start."""
        return self._isolation.layers

    @property
    def has_cgroups(self) -> bool:
        """Whether the kernel holds the CPU share; else a `CpuController` does."""
        return self._isolation.cgroups is not None

    @property
    def checkpoints_missing(self) -> str:
        """Why guests can't be copied; empty where they can."""
        plan = self._isolation.plan
        if not plan.namespaces:
            return "without namespaces a copy would not end with the session's other processes"
        if not plan.fork_gate:
            return "the kernel does not let the server decide about forks (seccomp user notification)"
        if not self._knows_senders:
            return "the kernel does not name the sender of a message by pidfd (Linux 6.5)"
        return ""

    @property
    def python_version(self) -> str:
        """Version of the guests' Python."""
        return self._versions[0]

    @property
    def packages(self) -> dict[str, str]:
        """Versions of the preloaded packages."""
        return self._versions[1]

    def status(self) -> SupervisorStatus:
        """A look at the moment."""
        zygotes = self._zygotes()
        return SupervisorStatus(
            ready_guests=self._pool.ready_count,
            live_guests=sum(len(zygote.guests) for zygote in zygotes),
            zygote_count=len(zygotes),
            zygote_age_seconds=time.monotonic() - self._zygote.started_at if self._zygote else 0.0,
            zygote_alive=self._zygote is not None,
            aged_zygotes=self._aged_zygotes,
            dead_zygotes=self._dead_zygotes,
            silent_zygotes=self._silent_zygotes,
        )

    async def start(self) -> None:
        """Starts the first zygote and begins to fill the pool; raises what made it fail."""
        await self._start_zygote()
        self._pool.fill()
        self._keeper = asyncio.create_task(self._keep_zygote())
        if not self.has_cgroups:
            self._cpu_controller = asyncio.create_task(CpuController(self._all_guests).run())

    async def close(self) -> None:
        """Ends every process."""
        for task in filter(None, (self._keeper, self._cpu_controller)):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._pool.close()
        guests = self._all_guests()
        for zygote in self._zygotes():
            zygote.kill()
        if guests:
            await asyncio.wait([guest.exited for guest in guests], timeout=5)
        await self._spawner.close()

    async def acquire(self, limits: Limits) -> GuestProcess:
        """A ready guest under `limits`; it is the caller's, who must kill it."""
        shape = shape_of(limits)
        if shape != self._default_shape:
            return await self._make(shape, cpu_percent=limits.cpu_percent)
        guest = await self._pool.take()
        if limits.cpu_percent != self._default_limits.cpu_percent:
            self._spawner.apply_cpu(guest, shape, cpu_percent=limits.cpu_percent)
        return guest

    async def copy(self, guest: GuestProcess, *, sequel: Sequel | None = None) -> GuestProcess:
        """A parked copy of an idle guest; it is the caller's, who must kill it. `CopyFailed` says why not."""
        return await self._spawner.copy(guest, sequel=sequel)

    def _zygotes(self) -> list[ZygoteProcess]:
        return [*self._retiring, *([self._zygote] if self._zygote else [])]

    def _all_guests(self) -> list[GuestProcess]:
        return [guest for zygote in self._zygotes() for guest in zygote.guests.values()]

    async def _make_default(self) -> GuestProcess:
        return await self._make(self._default_shape, cpu_percent=self._default_limits.cpu_percent)

    async def _make(self, shape: GuestShape, *, cpu_percent: int) -> GuestProcess:
        """From the zygote of the moment; when that dies meanwhile, from the next one."""
        zygote = await self._current_zygote()
        try:
            return await self._spawner.spawn(zygote, shape, cpu_percent=cpu_percent)
        except Unavailable:
            if not zygote.died.done() and not zygote.given_up:
                raise
        return await self._spawner.spawn(await self._current_zygote(), shape, cpu_percent=cpu_percent)

    async def _current_zygote(self) -> ZygoteProcess:
        if self._zygote is None:
            try:
                async with asyncio.timeout(_ZYGOTE_WAIT_SECONDS):
                    await self._have_zygote.wait()
            except TimeoutError:
                raise ZygoteUnavailable(problem="the zygote is being replaced; nothing was run") from None
        if self._zygote is None:
            raise ZygoteUnavailable(problem="the zygote is being replaced; nothing was run")
        return self._zygote

    async def _start_zygote(self) -> None:
        zygote = ZygoteProcess(self._isolation.plan)
        await zygote.start()
        old, self._zygote = self._zygote, zygote
        self._versions = (zygote.python_version, zygote.packages)
        self._have_zygote.set()
        _log.info(
            "zygote.ready",
            seconds=round(time.monotonic() - zygote.started_at, 3),
            pid=zygote.pid,
            frozen_mib=zygote.frozen_bytes // MIB,
        )
        if old:
            self._aged_zygotes += 1
            self._retiring.add(old)
            self._pool.empty()
            self._pool.fill()
        zygote.died.add_done_callback(lambda _: self._zygote_died(zygote))

    def _give_up(self, zygote: ZygoteProcess) -> None:
        """Its guests live on and it ends with the last of them; the ready ones it made are of no use."""
        _log.error("zygote.silent", pid=zygote.pid)
        self._zygote = None
        self._silent_zygotes += 1
        self._have_zygote.clear()
        self._retiring.add(zygote)
        zygote.give_up()
        self._pool.empty()

    def _zygote_died(self, zygote: ZygoteProcess) -> None:
        self._retiring.discard(zygote)
        if zygote is self._zygote:
            self._zygote = None
            self._dead_zygotes += 1
            self._have_zygote.clear()

    async def _keep_zygote(self) -> None:
        """Replaces a dead or silent zygote at once and an old one when its time has come."""
        pause = _RESTART_PAUSE_SECONDS
        while True:
            zygote = self._zygote
            if zygote is not None:
                await asyncio.wait([zygote.died], timeout=_LOOK_SECONDS)
            for retiring in list(self._retiring):
                retiring.retire()
            if self._zygote is not None and not self._zygote.look():
                self._give_up(self._zygote)
            if self._zygote is not None and not self._is_old(self._zygote):
                continue
            if self._zygote is None:
                _log.warning("zygote.gone")
            try:
                await self._start_zygote()
            except SandboxdError as error:
                _log.error("zygote.failed", problem=str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_RESTART_PAUSE_SECONDS)
            else:
                self._pool.fill()
                pause = _RESTART_PAUSE_SECONDS

    def _is_old(self, zygote: ZygoteProcess) -> bool:
        age = time.monotonic() - zygote.started_at
        return age > self._zygote_max_age and zygote.spawn_count >= _FEWEST_SPAWNS_TO_REPLACE
