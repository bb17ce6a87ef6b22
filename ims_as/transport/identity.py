"""Whose certificate it is: SIP domain identities in X.509 certificates (RFC 5922 §7).

Certificates come as what `ssl.SSLSocket.getpeercert` makes of one whose chain has been verified; names inside are
still the peer's text and may be anything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import SipUri, parse_uri

__all__ = ["certificate_identities_untrusted", "is_identity", "is_ip_address", "normal_identity"]

MAX_NAMES: Final = 256
"""Of one certificate that are looked at: an SBC's may name a few dozen domains."""
_DOMAIN_RE: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
MAX_DOMAIN_CHARS: Final = 253


def is_ip_address(host: str) -> bool:
    """Whether it is an address and no name; IPv6 without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def normal_identity(text: str) -> str:
    """A domain or IP address in the one form in which identities are compared; "" when it is neither.

    Wildcards are neither (RFC 5922 §7.2).
    """
    plain = text.strip("[]").rstrip(".").lower()
    if is_ip_address(plain):
        return str(ipaddress.ip_address(plain))
    return plain if len(plain) <= MAX_DOMAIN_CHARS and _DOMAIN_RE.fullmatch(plain) else ""


def certificate_identities_untrusted(certificate: Mapping[str, Any]) -> frozenset[str]:
    """The identities of a certificate (§7.1), in normal form.

    A ``sip:`` URI without user names a domain; DNS names count only where there is no such URI, the common name only
    where there is no subjectAltName at all. An iPAddress entry is the identity of a next hop that is written as an
    address, which the RFC leaves open.
    """
    names = [(str(kind), str(value)) for kind, value in certificate.get("subjectAltName", ())][:MAX_NAMES]
    found = {_uri_domain(value) for kind, value in names if kind == "URI"} - {""}
    if not found:
        found = {normal_identity(value) for kind, value in names if kind == "DNS"}
    found |= {normal_identity(value) for kind, value in names if kind == "IP Address"}
    if not names:
        parts = [part for group in certificate.get("subject", ()) for part in group]
        found = {normal_identity(str(value)) for kind, value in parts[:MAX_NAMES] if kind == "commonName"}
    return frozenset(found - {""})


def _uri_domain(text: str) -> str:
    """§7.1: only ``sip:``, and only without user."""
    try:
        uri = parse_uri(text)
    except SipParseError:
        return ""
    if not isinstance(uri, SipUri) or uri.scheme != "sip" or uri.user:
        return ""
    return normal_identity(uri.host)


def is_identity(identities: Collection[str], wanted: str) -> bool:
    """Whether one of the identities is the wanted domain: the whole of it, in any case (§7.2)."""
    name = normal_identity(wanted)
    return bool(name) and name in identities
