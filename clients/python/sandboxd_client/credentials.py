"""Where a client finds the server and its token, and how it secures the connection."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
_UNIX = "unix:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a connection is encrypted; needed for any address that other machines can reach."""

    ca: Path | None = None
    """Certificates of the authorities to trust, PEM; None trusts those of the system."""
    certificate: Path | None = None
    """Certificate to show, PEM, where the server asks for one."""
    key: Path | None = None
    """Key of `certificate`, PEM."""
    server_name: str | None = None
    """Name in the server's certificate, where it is not that of the address."""

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What gRPC takes."""
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes() if self.ca else None,
            private_key=self.key.read_bytes() if self.key else None,
            certificate_chain=self.certificate.read_bytes() if self.certificate else None,
        )


def find_address(environment: Mapping[str, str] | None = None) -> str:
    """`SANDBOXD_ADDRESS`, or the server's default address."""
    environment = os.environ if environment is None else environment
    return environment.get("SANDBOXD_ADDRESS") or DEFAULT_ADDRESS


def is_local(address: str) -> bool:
    """Whether only this machine can answer at `address`."""
    if address.startswith(_UNIX):
        return True
    host = address.rpartition(":")[0].removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, and names that begin like an address may be anyone's
        return False


def token_files(address: str, environment: Mapping[str, str] | None = None) -> list[Path]:
    """Files in which the token of the server at `address` may be, best first; none for other machines."""
    environment = os.environ if environment is None else environment
    if not is_local(address):
        return []  # the token of this machine's server is no other server's business
    found = []
    if environment.get("SANDBOXD_TOKEN_FILE"):
        found.append(Path(environment["SANDBOXD_TOKEN_FILE"]))
    if environment.get("SANDBOXD_DATA_DIRECTORY"):
        found.append(Path(environment["SANDBOXD_DATA_DIRECTORY"]) / "token")
    if address.startswith(_UNIX):
        socket = Path(address.removeprefix(_UNIX).removeprefix("//"))
        found.append(socket.parent / "token")
    found.append(_state_directory(environment) / "token")
    return found


def find_token(address: str, environment: Mapping[str, str] | None = None) -> str | None:
    """`SANDBOXD_TOKEN`, else what the first readable of `token_files` holds, else None."""
    environment = os.environ if environment is None else environment
    if environment.get("SANDBOXD_TOKEN"):
        return environment["SANDBOXD_TOKEN"]
    for path in token_files(address, environment):
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if token:
            return token
    return None


def _state_directory(environment: Mapping[str, str]) -> Path:
    """Where the server keeps its state unless told otherwise; the server has the same rule."""
    if os.geteuid() == 0:
        return Path("/var/lib/sandboxd")
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "sandboxd"
