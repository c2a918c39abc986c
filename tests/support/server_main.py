"""A server as its own process for tests: settings as JSON in, addresses as JSON out, then it serves."""

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from sandboxd import early, logs
from sandboxd.isolation import mounts, runtime_files, syscalls
from sandboxd.settings import Settings, load_settings
from sandboxd.supervisor.probing import IsolationInsufficient

if TYPE_CHECKING:
    from sandboxd.rpc.server import BoundAddresses


def _announce(settings: Settings, addresses: "BoundAddresses") -> None:
    token = settings.token_path.read_text().strip()
    print(json.dumps({"tcp": addresses.tcp, "token": token}), flush=True)


async def _serve(given: dict[str, Any], *, fault_step: str) -> None:
    settings = load_settings(environment={}, **given)
    if not fault_step:
        await early.serve(settings, started=lambda addresses: _announce(settings, addresses))
        return
    from sandboxd.app import running_server

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with running_server(settings, fault_step=fault_step) as addresses:
        _announce(settings, addresses)
        await stop.wait()


def _open_python_to_everyone() -> None:
    """Where Python lies below a home that only its owner may enter: shows everyone that path, and only that
    path, in a mount namespace of our own."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    mounts.make_private()
    while closed := runtime_files.unreadable_for_others():
        inside = [path for path in (sys.base_prefix, sys.prefix) if path.startswith(closed)]
        opened = [(path, os.open(path, os.O_PATH)) for path in inside]
        syscalls.mount("tmpfs", closed, "tmpfs", 0, "mode=755")
        for path, descriptor in opened:
            os.makedirs(path, exist_ok=True)
            syscalls.mount(f"/proc/self/fd/{descriptor}", path, "", syscalls.MS_BIND)
            os.close(descriptor)


def _put_on_a_disk_of_its_own(directory: str, size: int) -> None:
    """A small disk that only this process and its children see; it goes with them."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    mounts.make_private()
    os.makedirs(directory, exist_ok=True)
    syscalls.mount("tmpfs", directory, "tmpfs", 0, f"size={size}")


def main() -> None:
    """Reads one JSON document from the arguments: settings, and what only tests ask for."""
    wanted = json.loads(sys.argv[1])
    if wanted["readable"]:
        _open_python_to_everyone()
    if wanted["disk_bytes"]:
        _put_on_a_disk_of_its_own(wanted["settings"]["data_directory"], wanted["disk_bytes"])
    if wanted["uid"]:
        os.setgroups([])
        os.setresgid(wanted["uid"], wanted["uid"], wanted["uid"])
        os.setresuid(wanted["uid"], wanted["uid"], wanted["uid"])
    logs.configure(style="json", level=wanted["settings"].get("log_level", "warning"))
    try:
        asyncio.run(_serve(wanted["settings"], fault_step=wanted["fault_step"]))
    except IsolationInsufficient as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
