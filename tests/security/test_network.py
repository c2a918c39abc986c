"""Attacks over the network: there is none, not even to the machine itself or to another guest."""

import socket

import pytest

from tests.support.control import unconfined
from tests.support.serving import Serving


@pytest.mark.parametrize(
    "family",
    [2, 10, 15, 16, 17, 29, 31, 38, 40, 44],
    ids=["inet", "inet6", "key", "netlink", "packet", "can", "bluetooth", "alg", "vsock", "xdp"],
)
def test_sockets_of_other_families_are_refused(server: Serving, family: int) -> None:
    code = (
        "import socket\n"
        "for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):\n"
        f"    try: socket.socket({family}, kind)\n"
        "    except OSError as error: print(error.errno)"
    )
    assert server.output(code).split() == ["97"] * 4


def test_sockets_are_given_without_the_filter() -> None:
    code = "import socket\nfor f in (socket.AF_INET, socket.AF_NETLINK): print(bool(socket.socket(f, 2)))"
    assert unconfined(code).split() == ["True", "True"]


def test_the_servers_own_port_is_out_of_reach(server: Serving) -> None:
    host, port = server.address.rsplit(":", 1)
    attempt = f"import socket\nsocket.create_connection(({host!r}, {port}), 2)\nprint('connected')"
    assert unconfined(attempt) == "connected"
    assert server.quick(attempt).failure == "EXCEPTION"


def test_an_abstract_socket_of_the_host_is_out_of_reach(server: Serving) -> None:
    name = "\0sandboxd-test-abstract"
    attempt = f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({name!r})\nprint('connected')"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        assert unconfined(attempt) == "connected"
        assert server.quick(attempt).result.failure.type_name.endswith("ConnectionRefusedError")


def test_two_guests_cannot_meet(server: Serving) -> None:
    listen = "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0meeting')"
    assert server.quick(listen).result.failure.type_name.endswith("PermissionError")
    datagram = (
        "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "a.sendto(b'x', '\\0meeting')"
    )
    assert server.quick(datagram).failure == "EXCEPTION"


@pytest.mark.parametrize(
    "attempt",
    [
        "import requests\nrequests.get('http://example.com', timeout=2)",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1', timeout=2)",
        "import aiohttp\nasync with aiohttp.ClientSession() as s: await s.get('http://example.com')",
        "import asyncio\nawait asyncio.open_connection('127.0.0.1', 80)",
    ],
    ids=["requests", "urllib", "aiohttp", "asyncio"],
)
def test_libraries_fail_with_an_error_and_not_with_a_crash(server: Serving, attempt: str) -> None:
    answer = server.quick(attempt)
    assert answer.failure == "EXCEPTION", answer.describe()
