"""TLS for SIP (RFC 3261 §26.3, RFC 5922): contexts from files, and why a handshake failed.

TLS 1.2 at least, certificates of both sides verified. Names are not compared by the TLS library, whose rules are those
of the web: see `identity`. Keys that do not come from a file are handed to the library through memory, not the disk.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from ims_as.transport.identity import certificate_identities_untrusted, is_identity, is_ip_address, normal_identity

__all__ = ["TlsContexts", "TlsIdentityError", "TlsOptions", "TlsSetupError", "tls_failure"]

_VERIFY_CODES: Final = {
    9: "certificate not yet valid",
    10: "certificate expired",
    18: "self-signed certificate",
    19: "self-signed certificate",
    2: "unknown authority",
    20: "unknown authority",
    21: "unknown authority",
    23: "certificate revoked",
    26: "certificate for another purpose",
}
"""X509_V_ERR_* of OpenSSL."""
_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no certificate",
    "NO_SHARED_CIPHER": "no common cipher",
    "UNSUPPORTED_PROTOCOL": "TLS too old",
    "WRONG_SSL_VERSION": "TLS too old",
    "VERSION_TOO_LOW": "TLS too old",
    "WRONG_VERSION_NUMBER": "not TLS",
    "HTTP_REQUEST": "not TLS",
    "HTTPS_PROXY_REQUEST": "not TLS",
    "UNEXPECTED_MESSAGE": "not TLS",
    "PACKET_LENGTH_TOO_LONG": "not TLS",
    "RECORD_LAYER_FAILURE": "not TLS",
    "BAD_RECORD_TYPE": "not TLS",
}
"""``SSLError.reason``."""


class TlsSetupError(ValueError):
    """Certificate, key or authorities cannot be used; the text is for the operator."""


class TlsIdentityError(OSError):
    """The peer's certificate is good, but not of whom it should be."""


@attrs.frozen
class TlsOptions:
    """What our side of TLS is made from."""

    certificate: Path
    """PEM: our certificate, then those of the authorities between it and the root."""
    key_file: Path | None = None
    """PEM; None: see `key`."""
    key: str | None = attrs.field(default=None, repr=False)
    """The private key itself in PEM; None and no `key_file`: it is in the certificate's file."""
    key_password: str | None = attrs.field(default=None, repr=False)
    ca: Path | None = None
    """PEM: authorities of the peers; None: those of the system."""
    verify_peer: bool = True
    """False: anybody is believed."""
    peers: tuple[str, ...] = ()
    """Domains or addresses, one of which an incoming peer's certificate must be of; none: any that is verified."""


@contextmanager
def _key_path(options: TlsOptions) -> Iterator[str | None]:
    """A path for the TLS library, which takes keys from files only."""
    if options.key_file is not None or options.key is None:
        yield None if options.key_file is None else str(options.key_file)
        return
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, options.key.encode() + b"\n")
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _build(protocol: int, options: TlsOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.verify_mode = ssl.CERT_REQUIRED if options.verify_peer else ssl.CERT_NONE
    try:
        with _key_path(options) as key:
            # a password is always given: without one the library would ask on the terminal
            context.load_cert_chain(options.certificate, key, options.key_password or "")
    except OSError as error:
        where = options.certificate if options.key_file is None else f"{options.certificate}, {options.key_file}"
        raise TlsSetupError(f"certificate or key cannot be used ({where}): {_explain(error)}") from error
    try:
        if options.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(options.ca)
    except OSError as error:
        raise TlsSetupError(f"authorities cannot be used ({options.ca}): {_explain(error)}") from error
    return context


def _explain(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return error.strerror or str(error)


class TlsContexts:
    """The two contexts, and the rules of identity.

    Raises:
        TlsSetupError: the files cannot be used.
    """

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self._allowed = frozenset(map(normal_identity, options.peers))
        self.server: ssl.SSLContext
        self.client: ssl.SSLContext
        self.reload()

    def reload(self) -> None:
        """Read the files again; connections that are open keep what they have.

        Raises:
            TlsSetupError: they cannot be used; the former ones stay.
        """
        server, client = (_build(kind, self._options) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
        self.server, self.client = server, client

    def check_peer(self, certificate: dict[str, object] | None, wanted: str | None) -> frozenset[str]:
        """The identities of a peer after its handshake; none when nobody is verified.

        Args:
            wanted: the domain that the connection was made for; None for an incoming one. For an IP address, which few
                certificates name, a listed peer will do.

        Raises:
            TlsIdentityError: it is somebody else.
        """
        if not self._options.verify_peer:
            return frozenset()
        identities = certificate_identities_untrusted(certificate or {})
        if wanted is not None:
            is_listed = is_ip_address(wanted) and not identities.isdisjoint(self._allowed)
            if not is_listed and not is_identity(identities, wanted):
                raise TlsIdentityError("certificate of somebody else")
        elif self._allowed and not identities & self._allowed:
            raise TlsIdentityError("peer not listed")
        return identities


def tls_failure(error: BaseException) -> str:
    """Why TLS with a peer failed, from a fixed vocabulary."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TlsIdentityError):
            return str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _VERIFY_CODES.get(cause.verify_code, "certificate not valid")
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return "closed by peer"
        if isinstance(cause, ssl.SSLError):
            reason = cause.reason or ""
            if "ALERT" in reason:
                return "refused by peer"
            return _REASONS.get(reason, "protocol error")
        cause = cause.__cause__ or cause.__context__
    return "timeout" if isinstance(error, TimeoutError) else "closed by peer"
