"""What of the host's files Python and the preloaded packages need: the read-only root is made of it."""

import importlib.metadata
import os
import re
import site
import sys
import sysconfig

GUEST_DISTRIBUTIONS = ("numpy", "pandas", "requests", "aiohttp", "msgspec", "typing_extensions")
"""Installed packages that user code may import; their own requirements come along."""

_GUEST_SIDE = ("__init__.py", "channel", "guest", "isolation", "zygote", "limits.py", "policy.py")
_SYSTEM_PATHS = ("/usr/share/zoneinfo", "/etc/localtime")
_REQUIREMENT_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def readable_paths() -> list[str]:
    """Files and directories that a guest may read; nothing of the server's own code or of other packages."""
    return sorted(
        {*_standard_library(), *_shared_libraries(), *_packages(), *_own_code(), *_existing_system_paths()}
    )


def hidden_paths() -> list[str]:
    """Directories below the readable ones that hold other packages."""
    (standard_library,) = _standard_library()
    return [
        f"{standard_library}/{name}"
        for name in ("site-packages", "dist-packages", "test", "ensurepip", "idlelib")
    ]


def _standard_library() -> set[str]:
    return {os.path.dirname(os.path.realpath(os.__file__))}


def _shared_libraries() -> set[str]:
    """The system's shared libraries, which extension modules load lazily. No program is among them."""
    multiarch = str(sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
    candidates = [f"/usr/lib/{multiarch}", f"/lib/{multiarch}", "/lib64", "/usr/lib64"]
    library = sysconfig.get_config_var("LDLIBRARY")
    directory = sysconfig.get_config_var("LIBDIR")
    if library and directory:
        candidates.append(f"{directory}/{library}")
        candidates.append(os.path.realpath(f"{directory}/{library}"))
    return {path for path in candidates if os.path.exists(path) and not os.path.islink(path)}


def _packages() -> set[str]:
    paths: set[str] = set()
    for distribution in _closure(GUEST_DISTRIBUTIONS):
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__"):
                paths.add(str(distribution.locate_file(top)))
    return {path for path in paths if os.path.exists(path)}


def _closure(names: tuple[str, ...]) -> list[importlib.metadata.Distribution]:
    """The distributions `names` and all they require that are installed."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement of another platform or version
        found[name] = distribution
        for requirement in distribution.requires or ():
            match = _REQUIREMENT_NAME.match(requirement)
            if match and "extra ==" not in requirement:
                waiting.append(match.group())
    return list(found.values())


def _own_code() -> set[str]:
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return {f"{package}/{name}" for name in _GUEST_SIDE}


def _existing_system_paths() -> set[str]:
    return {path for path in _SYSTEM_PATHS if os.path.isfile(path) or os.path.isdir(path)}


def unreadable_for_others() -> str | None:
    """The first directory on the way to Python or to the packages that not everyone may enter, if any.

    Where the root cannot be rebuilt by the superuser, a guest's user id must reach Python by itself.
    """
    for path in (sys.base_prefix, sys.prefix, *site.getsitepackages()):
        parts = os.path.realpath(path).split("/")
        for end in range(2, len(parts) + 1):
            directory = "/".join(parts[:end])
            try:
                mode = os.stat(directory).st_mode
            except FileNotFoundError:
                break
            except PermissionError:
                return directory
            if not mode & 0o001:
                return directory
    return None
