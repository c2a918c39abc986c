"""Says that the network is off where a library would else fail with a puzzle. The kernel keeps it off."""

import errno
import socket
from typing import Any, NoReturn

NETWORK_OFF = "network is off in this sandbox"


def explain_network_off() -> None:
    """Makes name look-ups and sockets of this process, and of its forks, fail with that text at once."""
    socket.getaddrinfo = _refuse_lookup
    socket.gethostbyname = _refuse_lookup
    socket.gethostbyname_ex = _refuse_lookup
    real_init = socket.socket.__init__

    def explaining_init(
        self: socket.socket,
        family: int = -1,
        type: int = -1,  # noqa: A002  the names that socket.socket has
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        if fileno is None and family != socket.AF_UNIX:
            raise OSError(errno.EAFNOSUPPORT, NETWORK_OFF)
        real_init(self, family, type, proto, fileno)

    socket.socket.__init__ = explaining_init  # type: ignore[method-assign]


def _refuse_lookup(*_arguments: Any, **_named: Any) -> NoReturn:
    raise socket.gaierror(socket.EAI_FAIL, NETWORK_OFF)
