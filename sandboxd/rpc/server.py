"""The gRPC server: ports, credentials, services, health, reflection."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection
from sandboxd_api.v1 import (
    database_service_pb2,
    database_service_pb2_grpc,
    execution_service_pb2,
    execution_service_pb2_grpc,
    sandbox_service_pb2,
    sandbox_service_pb2_grpc,
)

from sandboxd.rpc.debugging import add_execution_service
from sandboxd.rpc.interceptor import CallInterceptor
from sandboxd.rpc.sizes import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES
from sandboxd.settings import Settings, SettingsError
from sandboxd.settings_tables import TlsSettings

SERVICE_NAMES = (
    sandbox_service_pb2.DESCRIPTOR.services_by_name["SandboxService"].full_name,
    execution_service_pb2.DESCRIPTOR.services_by_name["ExecutionService"].full_name,
    database_service_pb2.DESCRIPTOR.services_by_name["DatabaseService"].full_name,
)

_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.so_reuseport", 0),  # with it a second server takes the same port without a word
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.max_concurrent_streams", 1000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundAddresses:
    """Where the server listens."""

    tcp: str
    """host:port"""
    unix_socket: str
    """`unix:PATH`, or empty."""
    metrics: str = ""
    """host:port of the figures for Prometheus, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Servicers:
    """The three services."""

    sandboxes: sandbox_service_pb2_grpc.SandboxServiceServicer
    executions: execution_service_pb2_grpc.ExecutionServiceServicer
    databases: database_service_pb2_grpc.DatabaseServiceServicer


class RpcServer:
    """Owns the ports; `start` binds them or says why not."""

    def __init__(self, *, settings: Settings, servicers: Servicers, interceptor: CallInterceptor) -> None:
        self._settings = settings
        self._server = grpc.aio.server(interceptors=[interceptor], options=_OPTIONS)
        sandbox_service_pb2_grpc.add_SandboxServiceServicer_to_server(servicers.sandboxes, self._server)
        add_execution_service(servicers.executions, self._server)
        database_service_pb2_grpc.add_DatabaseServiceServicer_to_server(servicers.databases, self._server)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.serves_reflection:
            names = (*SERVICE_NAMES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)

    async def start(self) -> BoundAddresses:
        """Binds and serves; `SettingsError` when a port can't be had."""
        addresses = BoundAddresses(tcp=self._bind_tcp(), unix_socket=self._bind_unix())
        await self._server.start()
        await self.serving(True)
        return addresses

    async def serving(self, serving: bool) -> None:  # noqa: FBT001  one question, one answer
        """What health checks are told."""
        status = health_pb2.HealthCheckResponse
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, *, grace_seconds: float) -> None:
        """Refuses new calls, lets running ones end within the grace."""
        await self._server.stop(grace_seconds)

    def _bind_tcp(self) -> str:
        host, port = self._settings.host, self._settings.port
        wanted = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
        try:
            if self._settings.tls is None:
                bound = self._server.add_insecure_port(wanted)
            else:
                bound = self._server.add_secure_port(wanted, _credentials(self._settings.tls))
        except RuntimeError as error:
            raise SettingsError(f"port: {wanted} can't be bound; is another server running there?") from error
        return f"{wanted.rpartition(':')[0]}:{bound}"

    def _bind_unix(self) -> str:
        path = self._settings.unix_socket
        if path is None:
            return ""
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()  # left by a server that was killed; a live one would hold the TCP port too
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise SettingsError(f"unix_socket: {path} can't be bound") from error
        finally:
            os.umask(before)
        return f"unix:{path}"


def _credentials(tls: TlsSettings) -> grpc.ServerCredentials:
    if stat.S_IMODE(tls.key.stat().st_mode) & 0o077:
        raise SettingsError(f"tls.key: {tls.key} can be read by others; run: chmod 600 {tls.key}")
    authority = _read(tls.client_ca) if tls.client_ca else None
    return grpc.ssl_server_credentials(
        [(_read(tls.key), _read(tls.certificate))],
        root_certificates=authority,
        require_client_auth=authority is not None,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"tls: {path}: {error.strerror}") from error
