"""Messages for the ISC tests: saved from the wire, or built line by line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ims_as.sip.message import Request
from ims_as.sip.parser import parse_message_untrusted

VECTORS = Path(__file__).parents[1] / "vectors" / "isc"

HOME = "ims.mnc001.mcc001.3gppnetwork.org"
ALICE = f"sip:15550000001@{HOME}"
BOB = f"sip:15550000002@{HOME}"


def from_wire(name: str) -> Request:
    """A message that an S-CSCF really sent (Kamailio 5.6.3)."""
    message = parse_message_untrusted((VECTORS / name).read_bytes())
    assert isinstance(message, Request)
    return message


def build_request(
    method: str = "INVITE", uri: str = BOB, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> Request:
    items = [
        ("Via", "SIP/2.0/UDP 127.0.0.20;branch=z9hG4bK1"),
        ("Max-Forwards", "69"),
        ("From", f"<{ALICE}>;tag=a"),
        ("To", f"<{BOB}>"),
        ("Call-ID", "1@127.0.0.41"),
        ("CSeq", f"1 {method}"),
        *headers,
    ]
    return Request(method, uri, items, body)


def is_own_uri(uri: str) -> bool:
    return "127.0.0.30" in uri or "ai-as.example.net" in uri
