"""Certificates for a server of our own that speaks TLS, and for the cases that call it; made anew for each run."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Certificates", "make_certificates"]

VALID_FOR = datetime.timedelta(days=2)


@attrs.frozen
class Certificates:
    """PEM files; those of server and client have the key first."""

    authority: Path
    server: Path
    client: Path


def make_certificates(directory: Path, server: str, client: str) -> Certificates:
    """An authority, and what it issues for two IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = directory / "authority.pem"
    authority.write_bytes(_pem(_issue("ims-as conformance", key, key, [])))
    paths = []
    for name, address in (("server", server), ("client", client)):
        own = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address(address))]
        encoded = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = directory / f"{name}.pem"
        path.write_bytes(encoded + _pem(_issue(address, own, key, names)))
        paths.append(path)
    return Certificates(authority, *paths)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _issue(
    name: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, names: list[x509.IPAddress]
) -> x509.Certificate:
    """Without names: the authority itself."""
    now = datetime.datetime.now(datetime.UTC)

    def common_name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name(name))
        .issuer_name(common_name("ims-as conformance"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID_FOR)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())
