"""Encrypted connections: the client trusts the authority it is given and no other."""

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sandboxd_client import Client, Retry, Tls, Unreachable

from tests.support.server_process import server_process


def _certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    private.chmod(0o600)
    return certificate, private


async def test_client_trusts_the_given_authority_and_no_other(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, "server")
    other, _ = _certificate(tmp_path, "other")
    config = tmp_path / "sandboxd.toml"
    config.write_text(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    with server_process(tmp_path, "--config", str(config)) as server:
        async with Client.connect(server.tcp, token=server.token, tls=Tls(ca=certificate)) as client:
            assert (await client.quick_execute("1 + 1")).result == 2
        once = Retry(attempts=1)
        for tls in (Tls(ca=other), None):
            async with Client.connect(server.tcp, token=server.token, tls=tls, retry=once) as client:
                with pytest.raises(Unreachable):
                    await client.capabilities()
