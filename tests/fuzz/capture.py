"""The reader of capture files, with what follows it: initial requests, tested against criteria."""

from __future__ import annotations

import gzip
from pathlib import Path

from ims_as.ifc_tool.capture import MAX_BODY_BYTES, MAX_HEAD_BYTES, read_capture_untrusted
from ims_as.ifc_tool.pcap import PcapError
from ims_as.ifc_tool.reading import read_document_untrusted
from ims_as.ifc_tool.simulate import Simulation
from tests.fuzz.seeds import SIP_TOKENS
from tests.fuzz.target import Target
from tests.ims_as.ifc_tool.captures import ethernet, fragments4, fragments6, framed, ip4, ip6, pcap, sip, tcp, udp

__all__ = ["CAPTURE_TARGETS"]

_DOCUMENT = read_document_untrusted((Path(__file__).parents[1] / "vectors/ifc/subscription.xml").read_bytes())
_USER = "tel:+15550000002"


def read_capture(data: bytes) -> None:
    """No message is longer than what may be, and each stands in a packet that there is."""
    capture = read_capture_untrusted(data)
    for message in capture.messages:
        assert 0 < message.number <= capture.n_packets
        assert len(message.data) <= MAX_HEAD_BYTES + 4 + MAX_BODY_BYTES
    assert all(count > 0 for count in capture.skipped.values())


def simulate(data: bytes) -> None:
    """Every request has an end."""
    simulated, report = Simulation(_DOCUMENT, user=_USER).capture_untrusted("a.pcap", data)
    assert report.n_messages >= len({each.found.number for each in simulated if each.found is not None})
    assert all(each.chain.text for each in simulated)


_MESSAGES = [sip(), sip("MESSAGE", 2, body=b"hello"), sip("REGISTER", 3, extra="Expires: 0\r\n")]
_STREAM = b"\r\n\r\n".join(_MESSAGES)
_PIECES = [tcp(_STREAM[at : at + 150], at + 1) for at in range(0, len(_STREAM), 150)]
_CLASSIC = pcap([ethernet(ip4(udp(message))) for message in _MESSAGES])
_SECTION = bytes.fromhex("0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000")
_INTERFACE = bytes.fromhex("0100000014000000010000000000000014000000")


def _block(packet: bytes) -> bytes:
    padded = packet + bytes(-len(packet) % 4)
    lengths = len(packet).to_bytes(4, "little") * 2
    n_bytes = (32 + len(padded)).to_bytes(4, "little")
    return b"\6\0\0\0" + n_bytes + bytes(12) + lengths + padded + n_bytes


_SEEDS = (
    _CLASSIC,
    gzip.compress(_CLASSIC),
    pcap([ethernet(ip4(piece, 6)) for piece in (tcp(b"", 0, 2), *_PIECES[::-1])]),
    pcap([ethernet(piece) for piece in fragments4(udp(_MESSAGES[0]), 160)]),
    pcap([framed(276, piece) for piece in fragments6(udp(_MESSAGES[0]), 160)], 276, order=">"),
    pcap([framed(113, ip6(ip4(udp(_MESSAGES[1])), 4))], 113, nanoseconds=True),
    _SECTION + _INTERFACE + b"".join(_block(ethernet(ip6(udp(message)), 0x8100)) for message in _MESSAGES),
)
_TOKENS = (*SIP_TOKENS, b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x2c", b"\x06", _INTERFACE, _SECTION)

CAPTURE_TARGETS = (
    Target("capture", read_capture, (PcapError,), _SEEDS, _TOKENS),
    Target("simulate", simulate, (PcapError,), _SEEDS, _TOKENS),
)
