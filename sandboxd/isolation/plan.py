"""Which layers of isolation this host can give: found out by probing, never inferred from the uid."""

import enum

import msgspec


class Grade(enum.Enum):
    """How strong the isolation is as a whole; stronger ones first."""

    FULL = "FULL"
    """Namespaces, pivoted root, seccomp, Landlock and cgroups."""
    NO_CGROUP = "NO_CGROUP"
    """The same, with memory held by resource limits and CPU by stopping and continuing."""
    NO_NAMESPACES = "NO_NAMESPACES"
    """seccomp, Landlock and resource limits only: file metadata of the host stays visible."""
    INSUFFICIENT = "INSUFFICIENT"
    """Without seccomp, without both namespaces and Landlock, or with guests as host root: nothing is run."""

    def reaches(self, floor: "Grade") -> bool:
        """Whether this grade is at least as strong as `floor`."""
        order = list(Grade)
        return order.index(self) <= order.index(floor)


class IsolationPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The layers a zygote sets up. Each that is on must succeed for every guest, or no user code runs."""

    user_namespace: bool
    """The zygote lives in a user namespace of its own."""
    mapped_uids: int
    """Ids mapped into that namespace; 1 means that every guest has the server's own host uid."""
    namespaces: bool
    """A pid namespace for the family, a read-only root; mount, ipc, uts, cgroup and net for each guest."""
    uid_per_guest: bool
    """Each guest has a host uid of its own."""
    superuser: bool
    """The server runs as host uid 0; then guests must have ids of their own, or nothing is run."""
    landlock_abi: int
    """0 leaves Landlock out."""
    seccomp: bool
    fork_gate: bool
    """Forks of a guest are decided by the host (seccomp user notification)."""
    cgroup_version: int
    """2, 1, or 0 where no cgroup is usable."""

    @property
    def own_map(self) -> bool:
        """Only the server's own id is mapped: each guest then needs a user namespace of its own, which
        also makes the kernel count its threads apart."""
        return self.user_namespace and self.mapped_uids == 1

    @property
    def counts_tasks_apart(self) -> bool:
        """Whether the kernel counts each guest's threads by themselves. It counts by user id and user
        namespace: where guests have the server's, a limit would count the server's threads as well."""
        return self.uid_per_guest or self.own_map

    @property
    def may_drop_bounding_set(self) -> bool:
        """Whether the zygote has CAP_SETPCAP: in a user namespace, or as the superuser."""
        return self.namespaces or self.uid_per_guest

    @property
    def grade(self) -> Grade:
        """The strength of this plan."""
        confined = self.namespaces or self.landlock_abi
        if not self.seccomp or not confined or (self.superuser and not self.uid_per_guest):
            return Grade.INSUFFICIENT
        if not self.namespaces:
            return Grade.NO_NAMESPACES
        if not self.cgroup_version:
            return Grade.NO_CGROUP
        return Grade.FULL


UID_BASE = 100_000
"""First host uid that guests get; ids above stay clear of the accounts of the machine."""
UID_COUNT = 65_536
"""Ids mapped into the zygote's user namespace when the server may map a range."""
OOM_SCORE_ADJUSTMENT = 150
"""oom_score_adj of guests and zygotes: when the machine itself runs out of memory, they go before the
server does."""
