"""A control group that is removed under the server must not keep the end of a guest from being told."""

from collections.abc import Iterator

import pytest

from sandboxd.supervisor.cgroup_tree import CgroupTree, open_tree
from sandboxd.supervisor.cgroups import CgroupLimits


@pytest.fixture
def tree() -> Iterator[CgroupTree]:
    try:
        found = open_tree(sweep=False)
    except OSError as error:
        pytest.skip(f"no control groups: {error}")
    yield found
    found.remove()


@pytest.mark.kernel
def test_the_peak_of_a_removed_group_is_0(tree: CgroupTree) -> None:
    group = tree.create("gone", CgroupLimits(memory_bytes=1 << 26, cpu_percent=50))
    group.reset_peak()  # opens its file
    tree.remove()
    assert group.peak_memory_bytes() == 0


def test_second_server_with_the_same_process_id_leaves_the_first_ones_groups(tree: CgroupTree) -> None:
    """Two containers' servers may both be process 1 and see the same control groups."""
    group = tree.create("kept", CgroupLimits(memory_bytes=1 << 26, cpu_percent=50))
    second = open_tree(sweep=False)
    second.create("kept", CgroupLimits(memory_bytes=1 << 26, cpu_percent=50)).remove()
    second.remove()
    assert group.memory_bytes() == 0
    assert all(directory.is_dir() for directory in group._directories.values())
    assert group.remove()
