"""Certificates made for a test: an authority, and what it issues, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ims_as.transport.tls import TlsOptions

__all__ = ["Authority"]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A root certificate in `directory`; `issue` makes others."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.directory = directory
        self.ca = directory / f"{name}.pem"
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._build(self._name, self._key.public_key(), [], days=(-1, 2), is_ca=True)
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        dns: Iterable[str] = (),
        uris: Iterable[str] = (),
        addresses: Iterable[str] = (),
        days: tuple[int, int] = (-1, 2),
        self_signed: bool = False,
        password: str | None = None,
    ) -> tuple[Path, Path]:
        """Certificate and key files.

        Args:
            name: the common name, and of the files.
            days: when it is valid, from today.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
        names += [x509.UniformResourceIdentifier(each) for each in uris]
        names += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        signer = key if self_signed else self._key
        certificate = self._build(_name(name), key.public_key(), names, days=days, is_ca=False, signer=signer)
        files = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        encryption = (
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password.encode())
        )
        files[1].write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return files

    def options(self, name: str, *, peers: tuple[str, ...] = (), **issued: object) -> TlsOptions:
        """For an endpoint with a certificate of its own; `issued` as for `issue`."""
        certificate, key = self.issue(name, **issued)  # type: ignore[arg-type]
        return TlsOptions(certificate, key_file=key, ca=self.ca, peers=peers)

    def _build(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        *,
        days: tuple[int, int],
        is_ca: bool,
        signer: ec.EllipticCurvePrivateKey | None = None,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        signing_key = self._key if signer is None else signer
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name if signing_key is self._key else subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signing_key, hashes.SHA256())
