"""How much one sandbox and one execution may use: the vocabulary shared by host and guest."""

from dataclasses import dataclass
from datetime import timedelta

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds of a sandbox. The kernel or the host holds each of them, never the guest.

    Every value is positive; sizes are bytes. A value above the ceiling of the settings is refused at
    the edge, so an instance is always one that may be granted.
    """

    execution_timeout: timedelta = timedelta(seconds=30)
    """Wall-clock time of one execution, from the first line of user code; queueing is not counted."""
    memory_bytes: int = 256 * MIB
    """Memory the guest may use above the zygote's baseline."""
    cpu_percent: int = 50
    """Share of one core; 100 is one whole core, 400 is four."""
    open_files: int = 100
    """RLIMIT_NOFILE: descriptors open at once, those of the runtime included."""
    threads: int = 10
    """Threads beside the main thread."""
    output_bytes: int = 1 * MIB
    """Bytes of stdout, and as many of stderr, that are kept: the head and the tail."""
    result_bytes: int = 1 * MIB
    """Encoded size of the result value; what does not fit is left out and marked."""
    log_bytes: int = 1 * MIB
    """Bytes of debug log and inspected variables that are kept of one execution."""
    source_bytes: int = 1 * MIB
    """UTF-8 size of the source text of one execution."""
    workspace_bytes: int = 16 * MIB
    """Size of the writable tmpfs."""
    workspace_inodes: int = 4096
    """Files and directories in the workspace."""
    idle_timeout: timedelta = timedelta(minutes=15)
    """Life of a sandbox after its last use."""


DEFAULT_LIMITS = Limits()

MAXIMUM_LIMITS = Limits(
    execution_timeout=timedelta(seconds=300),
    memory_bytes=4 * GIB,
    cpu_percent=400,
    open_files=1024,
    threads=64,
    output_bytes=16 * MIB,
    result_bytes=16 * MIB,
    log_bytes=16 * MIB,
    source_bytes=1 * MIB,
    workspace_bytes=1 * GIB,
    workspace_inodes=65536,
    idle_timeout=timedelta(hours=24),
)
"""The most a caller may ask for unless the settings say otherwise."""
