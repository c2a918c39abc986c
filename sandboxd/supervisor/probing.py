"""Asks a throw-away process which layers this host gives, and adds what only the host can try."""

import subprocess
import sys
from dataclasses import dataclass

import msgspec

from sandboxd.isolation.plan import Grade, IsolationPlan
from sandboxd.supervisor.cgroup_tree import CgroupTree, open_tree

_PROBE_SECONDS = 30
CGROUPS = "cgroups"
_CGROUP_FIX = (
    "run as root with writable cgroups, or give the service a delegated subtree "
    "(Delegate=memory cpu pids in its systemd unit); without them memory is held by resource limits "
    "and CPU by stopping and continuing"
)


class IsolationInsufficient(Exception):
    """This host does not give enough to run untrusted code under the configured floor."""


class LayerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One layer: whether it works, what was seen, and what to do where it does not."""

    name: str
    available: bool
    detail: str
    fix: str = ""


class _ProbeOutput(msgspec.Struct, frozen=True):
    layers: list[LayerReport]
    plan: IsolationPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class HostIsolation:
    """What the probe found."""

    layers: tuple[LayerReport, ...]
    plan: IsolationPlan
    cgroups: CgroupTree | None
    """The opened tree; whoever asked must remove it."""

    @property
    def grade(self) -> Grade:
        """Strength of all layers together."""
        return self.plan.grade

    def require(self, floor: Grade) -> None:
        """`IsolationInsufficient` with every missing layer and its fix when `floor` is not reached."""
        if self.grade.reaches(floor):
            return
        missing = "\n".join(
            f"  {layer.name}: {layer.detail}\n    fix: {layer.fix}"
            for layer in self.layers
            if not layer.available
        )
        raise IsolationInsufficient(
            f"isolation reaches only grade {self.grade.value}, the floor is {floor.value}; "
            f"no untrusted code will be run.\nMissing layers:\n{missing}\n"
            "Or lower the floor with the setting minimum_grade, if that is enough for your use."
        )


def probe_host(*, without: frozenset[str] = frozenset()) -> HostIsolation:
    """Tries every layer for real, each in a process of its own; blocks for some 100 ms."""
    output = subprocess.run(
        [sys.executable, "-I", "-m", "sandboxd.isolation.probe", *sorted(without - {CGROUPS})],
        env={"LANG": "C.UTF-8"},
        capture_output=True,
        timeout=_PROBE_SECONDS,
        process_group=0,  # Ctrl-C in a terminal ends the server, which says so itself
        check=False,
    )
    if output.returncode:
        problem = output.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise IsolationInsufficient(f"the isolation probe failed: {''.join(problem) or output.returncode}")
    found = msgspec.json.decode(output.stdout, type=_ProbeOutput)
    tree, layer = _probe_cgroups(off=CGROUPS in without)
    plan = msgspec.structs.replace(found.plan, cgroup_version=tree.version if tree else 0)
    return HostIsolation(layers=(*found.layers, layer), plan=plan, cgroups=tree)


def _probe_cgroups(*, off: bool) -> tuple[CgroupTree | None, LayerReport]:
    if off:
        detail = "switched off by setting"
    else:
        try:
            tree = open_tree()
        except OSError as error:
            detail = str(error)
        else:
            return tree, LayerReport(name=CGROUPS, available=True, detail=f"version {tree.version}")
    return None, LayerReport(name=CGROUPS, available=False, detail=detail, fix=_CGROUP_FIX)
