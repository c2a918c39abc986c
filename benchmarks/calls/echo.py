"""A server that does nothing but gRPC: what a call costs at least, on this machine at this moment."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

METHOD = "/echo/Echo"


async def _serve_echo(path: str) -> None:
    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


@contextmanager
def echo_process(directory: Path) -> Iterator[tuple[str, str]]:
    """A server in a process of its own: its TCP and its unix address."""
    path = str(directory / "echo")
    command = [sys.executable, "-m", "benchmarks.calls.echo", path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{process.stdout.readline().strip()}", f"unix:{path}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve_echo(sys.argv[1]))
