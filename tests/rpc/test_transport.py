"""TLS, client certificates and other bounds of the port, on real servers."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sandboxd_api.v1 import execution_service_pb2, execution_service_pb2_grpc

from sandboxd.settings import SettingsError, load_settings
from tests.support.serving import ServerRefused, Serving, serving

_AGENT = "spiffe://example/agents"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def files(self, directory: Path, name: str) -> tuple[Path, Path]:
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)
        key.chmod(0o600)
        return certificate, key


def _make(name: str, *, by: _Pair | None = None, uri: str = "") -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    if uri:
        names = [x509.UniformResourceIdentifier(uri)]
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return _Pair(certificate=built.sign(by.key if by else key, hashes.SHA256()), key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secured:
    """A server that asks for certificates."""

    server: Serving
    authority: _Pair

    def execute(self, pair: _Pair | None, metadata: Any = ()) -> str:
        """Who ran it, with this certificate and these headers."""
        credentials = grpc.ssl_channel_credentials(
            self.authority.pem, *((pair.key_pem, pair.pem) if pair else (None, None))
        )
        port = self.server.address.rpartition(":")[2]
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
            request = execution_service_pb2.QuickExecuteRequest(code="1")
            return str(stub.QuickExecute(request, metadata=metadata, timeout=20).execution.user_id)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Secured]:
    directory = tmp_path_factory.mktemp("tls")
    authority = _make("authority")
    certificate, key = _make("server", by=authority).files(directory, "server")
    anchor, _ = authority.files(directory, "authority")
    tls = {
        "certificate": str(certificate),
        "key": str(key),
        "client_ca": str(anchor),
        "subjects": [
            {"subject": _AGENT, "principal": "agents", "role": "user"},
            {"subject": "CN=reporter", "principal": "reporter", "role": "user"},
        ],
    }
    with serving(tls=tls) as server:
        yield _Secured(server=server, authority=authority)


@pytest.mark.parametrize(
    ("name", "uri", "principal"), [("x", _AGENT, "agents"), ("reporter", "", "reporter")], ids=["san", "cn"]
)
def test_mapped_certificate_is_its_principal_without_a_token(
    secured: _Secured, name: str, uri: str, principal: str
) -> None:
    assert secured.execute(_make(name, by=secured.authority, uri=uri)) == principal


def test_certificate_that_nobody_mapped_is_nobody(secured: _Secured) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        secured.execute(_make("anyone", by=secured.authority))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    token = (("authorization", f"Bearer {secured.server.token}"),)
    assert secured.execute(_make("anyone", by=secured.authority), token)  # the control: a token is enough


@pytest.mark.parametrize("kind", ["none", "of another authority"])
def test_without_a_certificate_of_the_authority_there_is_no_connection(secured: _Secured, kind: str) -> None:
    pair = None if kind == "none" else _make("reporter", by=_make("authority"))
    with pytest.raises(grpc.RpcError) as refused:
        secured.execute(pair, (("authorization", f"Bearer {secured.server.token}"),))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused_and_tls_1_2_is_spoken(
    secured: _Secured, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    assert _handshake(secured, version, tmp_path) != "spoken"
    assert _handshake(secured, ssl.TLSVersion.TLSv1_2, tmp_path) == "spoken"


def _handshake(secured: _Secured, version: ssl.TLSVersion, directory: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = _make("anyone", by=secured.authority).files(directory, "anyone")
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or our own library would be the one that refuses
    context.minimum_version = context.maximum_version = version
    host, _, port = secured.server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            with context.wrap_socket(connection):
                return "spoken"
        except (ssl.SSLError, ConnectionError) as error:
            return str(error)


def test_key_that_others_can_read_stops_the_start(tmp_path: Path) -> None:
    certificate, key = _make("server").files(tmp_path, "server")
    key.chmod(0o644)
    with pytest.raises(ServerRefused), serving(tls={"certificate": str(certificate), "key": str(key)}):
        pass


def test_address_that_others_reach_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tls\.certificate"):
        load_settings(environment={}, host="0.0.0.0", data_directory=tmp_path)


def test_metadata_beyond_its_bound_is_refused(server: Serving) -> None:
    heavy = (*server.metadata, *((f"x-filler-{number}", "x" * 4000) for number in range(5)))
    with pytest.raises(grpc.RpcError) as refused:
        server.executions.QuickExecute(
            execution_service_pb2.QuickExecuteRequest(code="1"), metadata=heavy, timeout=20
        )
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.output("print(1)") == "1"


def test_nothing_of_the_service_itself_can_be_looked_into(server: Serving) -> None:
    for path in ("/grpc.channelz.v1.Channelz/GetServers", "/grpc.admin.v1.Admin/Get"):
        with pytest.raises(grpc.RpcError) as refused:
            server.channel.unary_unary(path)(b"", metadata=server.metadata, timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_thousand_connections_that_say_nothing_disturb_nobody(server: Serving) -> None:
    host, _, port = server.address.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(1000)]
    try:
        assert server.output("print(1)") == "1"
    finally:
        for connection in silent:
            connection.close()
