"""The metrics port: answers `GET /metrics` over HTTP/1.1, on loopback only, and nothing else.

A reader of figures must not be able to hold up the server: few connections, short requests, short times.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from sandboxd.settings import SettingsError

_log = structlog.get_logger(__name__)

_LONGEST_REQUEST_BYTES = 8 * 1024
_REQUEST_SECONDS = 5.0
_MOST_CONNECTIONS = 8


@asynccontextmanager
async def metrics_endpoint(registry: CollectorRegistry, *, host: str, port: int) -> AsyncIterator[str]:
    """Serves the figures of `registry` while the block lasts; gives host:port. 0 takes a free port.

    Raises `SettingsError` when the port can't be had.
    """
    endpoint = _Endpoint(lambda: generate_latest(registry))
    try:
        server = await asyncio.start_server(endpoint.answer, host, port, limit=_LONGEST_REQUEST_BYTES)
    except OSError as error:
        raise SettingsError(f"metrics_port: {host}:{port} can't be bound: {error.strerror}") from error
    bound = server.sockets[0].getsockname()[1]
    try:
        yield f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
    finally:
        server.close()
        endpoint.close()
        await server.wait_closed()


class _Endpoint:
    """One request a connection."""

    def __init__(self, page: Callable[[], bytes]) -> None:
        self._page = page
        self._open: set[asyncio.StreamWriter] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads a request, writes the answer, hangs up."""
        if len(self._open) >= _MOST_CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(request))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks in no proper way gets no answer
        finally:
            self._open.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def close(self) -> None:
        """Hangs up on whoever is still connected."""
        for writer in list(self._open):
            writer.transport.abort()

    def _response(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics":
            return _http("404 Not Found", b"the figures are at /metrics\n")
        if method not in (b"GET", b"HEAD"):
            return _http("405 Method Not Allowed", b"GET /metrics\n")
        page = self._page()
        return _http("200 OK", page, kind=CONTENT_TYPE_LATEST, head=method == b"HEAD")


def _http(status: str, body: bytes, *, kind: str = "text/plain; charset=utf-8", head: bool = False) -> bytes:
    header = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return header.encode("ascii") + (b"" if head else body)
