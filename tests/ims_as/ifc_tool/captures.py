"""Packets and capture files for the tests, made by hand."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

CORE, SERVER = "192.0.2.20", "192.0.2.30"
CORE6, SERVER6 = "2001:db8::20", "2001:db8::30"
ETHERNET, RAW, SLL, SLL2, NULL = 1, 101, 113, 276, 0


def sip(method: str = "INVITE", number: int = 1, *, body: bytes = b"", extra: str = "") -> bytes:
    head = (
        f"{method} sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/UDP {CORE};branch=z9hG4bK{number}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:alice@example.net>;tag=a\r\nTo: <sip:bob@example.net>\r\n"
        f"Call-ID: call-{number}\r\nCSeq: {number} {method}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def udp(payload: bytes, source_port: int = 5060, destination_port: int = 5060) -> bytes:
    return struct.pack(">HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def tcp(payload: bytes, sequence: int, flags: int = 0x18, source_port: int = 40000) -> bytes:
    return struct.pack(">HHIIBBHHH", source_port, 5060, sequence & 0xFFFFFFFF, 1, 0x50, flags, 1024, 0, 0) + payload


def ip4(payload: bytes, protocol: int = 17, *, fragment: int = 0, identification: int = 7) -> bytes:
    addresses = ip_address(CORE).packed + ip_address(SERVER).packed
    total = 20 + len(payload)
    return struct.pack(">BBHHHBBH", 0x45, 0, total, identification, fragment, 64, protocol, 0) + addresses + payload


def ip6(payload: bytes, protocol: int = 17) -> bytes:
    addresses = ip_address(CORE6).packed + ip_address(SERVER6).packed
    return struct.pack(">IHBB", 0x60000000, len(payload), protocol, 64) + addresses + payload


def fragments4(payload: bytes, n_bytes: int) -> list[bytes]:
    """An IPv4 payload in pieces of n_bytes, a multiple of 8."""
    starts = range(0, len(payload), n_bytes)
    return [
        ip4(payload[at : at + n_bytes], fragment=at // 8 | (0x2000 if at + n_bytes < len(payload) else 0))
        for at in starts
    ]


def fragments6(payload: bytes, n_bytes: int) -> list[bytes]:
    starts = range(0, len(payload), n_bytes)
    return [
        ip6(struct.pack(">BBHI", 17, 0, at | (at + n_bytes < len(payload)), 9) + payload[at : at + n_bytes], 44)
        for at in starts
    ]


def ethernet(packet: bytes, *tags: int) -> bytes:
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    tagged = b"".join(struct.pack(">HH", tag, 5) for tag in tags)
    return bytes(12) + tagged + struct.pack(">H", kind) + packet


def framed(link_type: int, packet: bytes) -> bytes:
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    match link_type:
        case 1:
            return ethernet(packet)
        case 113:
            return struct.pack(">HHH8sH", 0, 1, 6, bytes(8), kind) + packet
        case 276:
            return struct.pack(">HHIHBB8s", kind, 0, 1, 1, 0, 6, bytes(8)) + packet
        case 0:
            return struct.pack("<I", 2) + packet
    return packet


def pcap(packets: Iterable[bytes], link_type: int = ETHERNET, *, order: str = "<", nanoseconds: bool = False) -> bytes:
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)]
    for number, packet in enumerate(packets):
        parts += [struct.pack(order + "IIII", 1_700_000_000, number * 1000, len(packet), len(packet)), packet]
    return b"".join(parts)


def tool(*command: str | Path) -> str:
    """One of Wireshark's programs."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def tshark_messages(path: Path) -> int:
    """SIP messages that tshark sees, put together from fragments and segments."""
    fields = tool("tshark", "-r", path, "-Y", "sip.CSeq", "-T", "fields", "-e", "sip.CSeq", "-E", "aggregator=|")
    return sum(len(line.split("|")) for line in fields.splitlines())
