"""Control groups on a tree of plain files: what is written where, for both versions."""

from pathlib import Path

import pytest

from sandboxd.supervisor import cgroup_tree
from sandboxd.supervisor.cgroup_tree import CgroupTree
from sandboxd.supervisor.cgroups import MEMORY_SLACK_BYTES, Cgroup, CgroupLimits

_LIMITS = CgroupLimits(memory_bytes=1 << 26, cpu_percent=50)


def _files(directory: Path, *names: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text("")
    return directory


def _group_v2(root: Path) -> Cgroup:
    directory = _files(
        root / "g", "memory.max", "memory.swap.max", "cpu.max", "cgroup.procs", "memory.events"
    )
    return Cgroup({"memory": directory, "cpu": directory}, version=2)


def test_version_two_limits_are_written_as_the_kernel_reads_them(tmp_path: Path) -> None:
    _group_v2(tmp_path).limit(_LIMITS)
    assert (tmp_path / "g/memory.max").read_text() == str((1 << 26) + MEMORY_SLACK_BYTES)
    assert (tmp_path / "g/memory.swap.max").read_text() == "0"
    assert (tmp_path / "g/cpu.max").read_text() == "10000 20000"


def test_version_one_limits_go_to_each_controller(tmp_path: Path) -> None:
    memory = _files(tmp_path / "memory", "memory.limit_in_bytes", "cgroup.procs")
    cpu = _files(
        tmp_path / "cpu", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_burst_us", "cgroup.procs"
    )
    group = Cgroup({"memory": memory, "cpu": cpu}, version=1)
    group.limit(_LIMITS)
    group.attach(4711)
    assert (memory / "memory.limit_in_bytes").read_text() == str((1 << 26) + MEMORY_SLACK_BYTES)
    assert [
        (cpu / name).read_text() for name in ("cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_burst_us")
    ] == [
        "20000",
        "10000",
        "10000",
    ]
    assert [(path / "cgroup.procs").read_text() for path in (memory, cpu)] == ["4711", "4711"]


def test_oom_kills_are_counted_by_the_kernel(tmp_path: Path) -> None:
    group = _group_v2(tmp_path)
    assert group.oom_kills() == 0
    (tmp_path / "g/memory.events").write_text("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\n")
    assert group.oom_kills() == 2


def test_a_group_that_cannot_be_limited_leaves_nothing(tmp_path: Path) -> None:
    tree = CgroupTree({"memory": tmp_path, "cpu": tmp_path}, version=2)
    with pytest.raises(OSError, match=r"memory\.max|cgroup"):
        tree.create("g", _LIMITS)
    assert list(tmp_path.iterdir()) == []


def test_groups_of_dead_servers_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    dead, alive, other = (tmp_path / name for name in ("sandboxd-4194304", "sandboxd-1", "sandboxd-host"))
    for directory in (dead / "guest-1", alive / "guest-1", other):
        directory.mkdir(parents=True)
    unseen = tmp_path / "sandboxd-4194303"  # lives in another pid namespace
    unseen.mkdir()
    tree = CgroupTree({"memory": unseen}, version=2)
    tree.hold()
    cgroup_tree._sweep([tmp_path])
    assert unseen.exists()
    tree.remove()
    assert not unseen.exists()
    assert not dead.exists()
    assert (alive / "guest-1").exists()
    assert other.exists()
