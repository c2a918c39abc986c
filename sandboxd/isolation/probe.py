"""Finds out which layers this host gives, each tried for real in a throw-away child.

Run by exec (`python -I -m sandboxd.isolation.probe`), so that the host never forks; prints one JSON
document. Never infers from the user id: container runtimes refuse calls that root may make elsewhere.
"""

import os
import sys
import tempfile
from collections.abc import Callable

import msgspec

from sandboxd.isolation import credentials, landlock, mounts, namespaces, runtime_files, seccomp, syscalls
from sandboxd.isolation.plan import UID_BASE, UID_COUNT, IsolationPlan


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of isolation on this host."""

    name: str
    available: bool
    detail: str
    """What was seen: a version, or the error."""
    fix: str = ""
    """What to do where it is not available."""


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """All layers but cgroups, and the plan they allow."""

    layers: list[Layer]
    plan: IsolationPlan


_FIXES = {
    "machine": "run on an x86_64 machine with Linux",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER and a container profile that lets seccomp(2) through",
    "fork_gate": "use Linux 5.5 or newer; without it forks of a guest are refused and checkpoints are off",
    "landlock": "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK and landlock in the lsm= boot list",
    "user_namespace_range": "run as root, or keep CAP_SETUID, so that each guest gets a user id of its own",
    "user_namespace_own": "sysctl user.max_user_namespaces=15000 (on Debian kernels that have it also "
    "kernel.unprivileged_userns_clone=1); in a container allow unshare(2) and mount(2)",
    "namespaces": "allow unshare(2), mount(2) and pivot_root(2): run as root with CAP_SYS_ADMIN, or "
    "allow user namespaces",
    "python_readable": "install Python and the virtual environment where every user may enter (chmod o+x "
    "on the directory named), or run as root",
    "user_ids": "run as root, or keep CAP_SETUID, so that each guest gets a user id of its own",
}


def probe(*, without: frozenset[str] = frozenset()) -> ProbeReport:
    """Tries every layer; those named in `without` count as missing (for tests and for a look ahead)."""
    layers: dict[str, Layer] = {}

    def add(name: str, attempt: Callable[[], str]) -> bool:
        if name in without or (name.startswith("user_namespace") and "user_namespace" in without):
            problem, detail = "switched off by setting", ""
        else:
            problem, detail = _try(attempt)
        layers[name] = Layer(
            name=name, available=not problem, detail=problem or detail, fix=_FIXES[name] if problem else ""
        )
        return not problem

    add("machine", _machine)
    has_seccomp = add("seccomp", lambda: _in_child(lambda: _load_filter(listener=False)))
    has_gate = has_seccomp and add("fork_gate", lambda: _in_child(lambda: _load_filter(listener=True)))
    has_landlock = add("landlock", lambda: _in_child(_confine) and f"ABI {landlock.abi_version()}")
    readable = add("python_readable", _python_readable)
    ranged = add("user_namespace_range", lambda: _map_child(ranged=True))
    own = ranged or add("user_namespace_own", lambda: _map_child(ranged=False))
    own_ids = add("user_ids", lambda: _in_child(lambda: credentials.become(UID_BASE)))
    spaces = add("namespaces", lambda: _isolated_root(user_namespace=own, ranged=ranged))
    user_namespace = own and spaces
    if spaces and not readable:
        del layers["python_readable"]  # the root is rebuilt for guests: nobody needs to pass that way
    plan = IsolationPlan(
        user_namespace=user_namespace,
        mapped_uids=(UID_COUNT if ranged else 1) if user_namespace else 0,
        namespaces=spaces,
        uid_per_guest=(ranged and user_namespace)
        or (not user_namespace and own_ids and (spaces or readable)),
        superuser=os.geteuid() == 0,
        landlock_abi=landlock.abi_version() if has_landlock else 0,
        seccomp=has_seccomp,
        fork_gate=has_gate,
        cgroup_version=0,
    )
    return ProbeReport(layers=list(layers.values()), plan=plan)


def _try(attempt: Callable[[], str]) -> tuple[str, str]:
    try:
        return "", attempt()
    except OSError as error:
        return str(error) or type(error).__name__, ""


def _machine() -> str:
    syscalls.require_supported_machine()
    return f"{os.uname().machine}, Linux {os.uname().release}"


def _python_readable() -> str:
    directory = runtime_files.unreadable_for_others()
    if directory:
        raise OSError(f"{directory} may not be entered by every user")
    return "by every user"


def _in_child(action: Callable[[], object]) -> str:
    """Runs `action` in a fork and returns "works", or raises what it raised there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            action()
        except BaseException as error:  # noqa: BLE001  reported to the parent as text
            os.write(writing, (str(error) or type(error).__name__).encode()[:1000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        problem = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if problem or status:
        raise OSError(problem or f"the child ended with status {status}")
    return "works"


def _load_filter(*, listener: bool) -> None:
    credentials.set_no_new_privs()
    seccomp.install(seccomp.assemble(fork_gate=listener), listener=listener)


def _confine() -> None:
    abi = landlock.abi_version()
    if not abi:
        raise OSError("Landlock is not built or not enabled")
    credentials.set_no_new_privs()
    landlock.restrict(abi=abi, read_only=["/usr"], writable=[])


def _map_child(*, ranged: bool) -> str:
    """A child in a new user namespace whose ids are mapped as the zygote's would be."""
    to_parent, to_child = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(to_child[1])  # or its end would never be seen
        os._exit(_enter_and_wait(to_parent[1], to_child[0], ranged=ranged))
    os.close(to_parent[1])
    problem = b""
    try:
        problem = os.read(to_parent[0], 1000)
        if problem == b"entered" and ranged:
            namespaces.map_id_range(child, base=UID_BASE, count=UID_COUNT)
    finally:
        os.close(to_child[1])
        os.close(to_parent[0])
        os.close(to_child[0])
        os.waitpid(child, 0)
    if problem != b"entered":
        raise OSError(problem.decode(errors="replace") or "no answer from the child")
    return f"{UID_COUNT} ids" if ranged else "own id only"


def _enter_and_wait(report: int, release: int, *, ranged: bool) -> int:
    try:
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        if ranged:
            namespaces.enter_user_namespace()
        else:
            namespaces.enter_user_namespace_as(0, process_directory=proc)
    except OSError as error:
        os.write(report, str(error).encode()[:1000])
        return 1
    os.write(report, b"entered")
    os.read(release, 1)
    return 0


def _isolated_root(*, user_namespace: bool, ranged: bool) -> str:
    """A read-only root and a pid namespace, as the zygote makes them; smaller, so that it is quick."""

    def attempt() -> None:
        if user_namespace and not ranged:
            proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
            namespaces.enter_user_namespace_as(0, process_directory=proc)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        mounts.make_private()
        mounts.enter_read_only_root(binds=[os.path.dirname(os.path.realpath(__file__))], hidden=[])
        namespaces.enter_family_namespaces()
        namespaces.enter_guest_namespaces()
        mounts.mount_workspace(size_bytes=1 << 20, inodes=16, uid=0)
        with tempfile.NamedTemporaryFile(dir=mounts.WORKSPACE):
            pass

    _in_child(attempt)
    return "works in a user namespace" if user_namespace else "works"


if __name__ == "__main__":
    report = probe(without=frozenset(filter(None, sys.argv[1:])))
    sys.stdout.buffer.write(msgspec.json.encode(report))
