"""Resource limits of one process: setrlimit(2). Sizes are absolute, baseline of the zygote included."""

import resource

import msgspec


class ResourceLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one guest process may use, as the kernel counts it."""

    data_bytes: int
    """RLIMIT_DATA: gives a MemoryError, which the session survives."""
    address_space_bytes: int
    """RLIMIT_AS: a backstop for mappings that DATA does not count."""
    open_files: int
    processes: int
    """RLIMIT_NPROC: threads and forks of this user id; 0 leaves it unset where ids are shared."""
    most_processes: int = 0
    """To what the host may raise it later, for copies; the guest can't, its filter lets it only read."""
    file_bytes: int


_MAIN_THREAD_STACK_BYTES = 8 * 1024 * 1024


def apply(limits: ResourceLimits) -> None:
    """Sets soft and hard limits of the calling process; they can never be raised again by it."""
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_MEMLOCK, 0)
    _set(resource.RLIMIT_MSGQUEUE, 0)
    _set(resource.RLIMIT_NICE, 0)
    _set(resource.RLIMIT_RTPRIO, 0)
    _set(resource.RLIMIT_FSIZE, limits.file_bytes)
    _set(resource.RLIMIT_NOFILE, limits.open_files)
    _set(resource.RLIMIT_STACK, _MAIN_THREAD_STACK_BYTES)
    _set(resource.RLIMIT_DATA, limits.data_bytes)
    _set(resource.RLIMIT_AS, limits.address_space_bytes)
    if limits.processes:
        _set(resource.RLIMIT_NPROC, max(limits.processes, limits.most_processes))
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        resource.setrlimit(resource.RLIMIT_NPROC, (min(limits.processes, hard), hard))


def _set(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    # A host may itself run under a lower ceiling; never ask for more than it has.
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
