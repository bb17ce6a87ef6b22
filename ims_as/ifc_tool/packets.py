"""Captured packets → UDP datagrams and TCP segments: link layers, VLAN tags, IPv4 and IPv6 with fragments, tunnels.

Checksums are not looked at: a capture at the sender has them wrong wherever the network card computes them.
"""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import IPv4Address, IPv6Address

import attrs

from ims_as.ifc_tool.pcap import Packet

__all__ = ["Datagram", "Dissector", "TcpSegment"]

MAX_FRAGMENTED = 1024
"""IP datagrams that wait for their fragments; the oldest one goes first."""
MAX_FRAGMENTS = 128
"""Of one IP datagram: 64 KiB in packets of 576 bytes."""
MAX_DEPTH = 4
"""IP within IP, VLAN tags on VLAN tags."""

_NULL, _ETHERNET, _LOOP, _SLL, _EXPORTED, _SLL2 = 0, 1, 108, 113, 252, 276
_RAW = frozenset({12, 14, 101, 228, 229})

_IPV4, _IPV6 = 0x0800, 0x86DD
_VLANS = frozenset({0x8100, 0x88A8, 0x9100})
_TCP, _UDP, _IP_IN_IP, _IPV6_IN_IP, _FRAGMENT, _ESP, _AH = 6, 17, 4, 41, 44, 50, 51
_OPTIONS = frozenset({0, 43, 60, 135})
"""IPv6 extension headers with a length: hop by hop, routing, destination, mobility."""

_EXPORTED_PROTOCOL, _EXPORTED_IPV4, _EXPORTED_IPV6, _EXPORTED_PORT = (12, 14), (20, 21), (22, 23), (25, 26)

_SYN, _FIN_OR_RST = 0x02, 0x05


@attrs.frozen
class Datagram:
    source: str
    """``address:port``, IPv6 in brackets."""
    destination: str
    payload: bytes
    is_cut: bool
    transport: str = "udp"


@attrs.frozen
class TcpSegment:
    source: str
    destination: str
    sequence: int
    payload: bytes
    is_start: bool
    """SYN."""
    is_end: bool
    """FIN or RST."""


@attrs.define
class _Fragments:
    parts: dict[int, bytes] = attrs.field(factory=dict)
    n_bytes: int | None = None
    """Of the whole, once the last fragment was seen."""

    def add(self, offset: int, data: bytes, *, is_last: bool) -> bytes | None:
        """The whole payload when nothing is missing any more."""
        self.parts.setdefault(offset, data)
        if is_last:
            self.n_bytes = offset + len(data)
        if self.n_bytes is None:
            return None
        whole = bytearray()
        for start in sorted(self.parts):
            if start > len(whole):
                return None
            whole += self.parts[start][len(whole) - start :]
        return bytes(whole[: self.n_bytes]) if len(whole) >= self.n_bytes else None


class _Skip(Exception):
    """Why a packet is left out."""


@attrs.define
class Dissector:
    """Takes packets in the order of the file.

    Attributes:
        skipped: packets left out, by reason.
    """

    skipped: Counter[str] = attrs.field(factory=Counter)
    _fragmented: dict[tuple[object, ...], _Fragments] = attrs.field(factory=dict)

    def dissect_untrusted(self, packet: Packet) -> Datagram | TcpSegment | None:
        """What the packet carries, or completes; None for anything else.  Never raises."""
        try:
            return self._link(packet)
        except _Skip as skip:
            self.skipped[str(skip)] += 1
        except (struct.error, IndexError):
            self.skipped["damaged or cut packets"] += 1
        return None

    @property
    def n_incomplete(self) -> int:
        """IP datagrams of which fragments are missing."""
        return len(self._fragmented)

    def _link(self, packet: Packet) -> Datagram | TcpSegment | None:
        data, kind = packet.data, packet.link_type
        if kind == _ETHERNET:
            return self._by_ether_type(data, 12, packet)
        if kind == _SLL:
            return self._by_ether_type(data, 14, packet)
        if kind == _SLL2:
            (ether_type,) = struct.unpack_from(">H", data)
            return self._tagged(data, ether_type, 20, packet)
        if kind in (_NULL, _LOOP):
            # the address family: in the byte order of whoever captured, and other numbers for IPv6 on each BSD
            return self._ip(data[4:], packet, 0)
        if kind in _RAW:
            return self._ip(data, packet, 0)
        if kind == _EXPORTED:
            return _exported(data, packet)
        raise _Skip(f"packets of link type {kind}")

    def _by_ether_type(self, data: bytes, position: int, packet: Packet) -> Datagram | TcpSegment | None:
        (ether_type,) = struct.unpack_from(">H", data, position)
        return self._tagged(data, ether_type, position + 2, packet)

    def _tagged(self, data: bytes, ether_type: int, position: int, packet: Packet) -> Datagram | TcpSegment | None:
        for _ in range(MAX_DEPTH):
            if ether_type not in _VLANS:
                break
            (ether_type,) = struct.unpack_from(">H", data, position + 2)
            position += 4
        if ether_type not in (_IPV4, _IPV6):
            raise _Skip("packets other than IP")
        return self._ip(data[position:], packet, 0)

    def _ip(self, data: bytes, packet: Packet, depth: int) -> Datagram | TcpSegment | None:
        if depth > MAX_DEPTH:
            raise _Skip("packets in too many tunnels")
        version = data[0] >> 4
        if version == 4:
            return self._ipv4(data, packet, depth)
        if version == 6:
            return self._ipv6(data, packet, depth)
        raise _Skip("packets other than IP")

    def _ipv4(self, data: bytes, packet: Packet, depth: int) -> Datagram | TcpSegment | None:
        n_header = (data[0] & 15) * 4
        total, identification, fragment, _, protocol = struct.unpack_from(">HHHBB", data, 2)
        if n_header < 20 or len(data) < n_header:
            raise _Skip("damaged or cut packets")
        source, destination = data[12:16], data[16:20]
        # a length of 0: the network card was to cut it (segmentation offload)
        payload = data[n_header : total if total >= n_header else None]
        if fragment & 0x3FFF:
            key = (source, destination, identification, protocol)
            whole = self._reassemble(key, (fragment & 0x1FFF) * 8, payload, is_last=not fragment & 0x2000)
            if whole is None:
                return None
            payload = whole
        return self._transport(protocol, payload, (source, destination), packet, depth)

    def _ipv6(self, data: bytes, packet: Packet, depth: int) -> Datagram | TcpSegment | None:
        n_payload, protocol = struct.unpack_from(">HB", data, 4)
        addresses = (data[8:24], data[24:40])
        if len(data) < 40:
            raise _Skip("damaged or cut packets")
        payload = data[40 : 40 + n_payload] if n_payload else data[40:]
        for _ in range(8):
            if protocol in _OPTIONS:
                protocol, payload = payload[0], payload[(payload[1] + 1) * 8 :]
            elif protocol == _AH:
                protocol, payload = payload[0], payload[(payload[1] + 2) * 4 :]
            elif protocol == _FRAGMENT:
                protocol, _, offset, identification = struct.unpack_from(">BBHI", payload)
                key = (*addresses, identification)
                whole = self._reassemble(key, offset & 0xFFF8, payload[8:], is_last=not offset & 1)
                if whole is None:
                    return None
                payload = whole
            else:
                break
        return self._transport(protocol, payload, addresses, packet, depth)

    def _reassemble(self, key: tuple[object, ...], offset: int, data: bytes, *, is_last: bool) -> bytes | None:
        if offset + len(data) > 65_535:
            raise _Skip("damaged or cut packets")
        fragments = self._fragmented.setdefault(key, _Fragments())
        if len(fragments.parts) >= MAX_FRAGMENTS:
            del self._fragmented[key]
            raise _Skip("IP datagrams with fragments missing")
        whole = fragments.add(offset, data, is_last=is_last)
        if whole is not None:
            del self._fragmented[key]
        elif len(self._fragmented) > MAX_FRAGMENTED:
            del self._fragmented[next(iter(self._fragmented))]
            self.skipped["IP datagrams with fragments missing"] += 1
        return whole

    def _transport(
        self, protocol: int, data: bytes, addresses: tuple[bytes, bytes], packet: Packet, depth: int
    ) -> Datagram | TcpSegment | None:
        if protocol in (_IP_IN_IP, _IPV6_IN_IP):
            return self._ip(data, packet, depth + 1)
        if protocol == _AH:
            return self._transport(data[0], data[(data[1] + 2) * 4 :], addresses, packet, depth + 1)
        if protocol == _ESP:
            raise _Skip("encrypted packets (ESP)")
        if protocol == _UDP:
            from_port, to_port, n_bytes = struct.unpack_from(">HHH", data)
            payload = data[8 : n_bytes if n_bytes >= 8 else None]
            is_cut = packet.is_cut or len(payload) < n_bytes - 8
            return Datagram(*_endpoints(addresses, from_port, to_port), payload, is_cut)
        if protocol == _TCP:
            from_port, to_port, sequence, _, offset, flags = struct.unpack_from(">HHIIBB", data)
            payload = data[(offset >> 4) * 4 :]
            source, destination = _endpoints(addresses, from_port, to_port)
            is_end = bool(flags & _FIN_OR_RST)
            return TcpSegment(source, destination, sequence, payload, bool(flags & _SYN), is_end)
        raise _Skip("packets other than UDP and TCP")


def _endpoints(addresses: tuple[bytes, bytes], from_port: int, to_port: int) -> tuple[str, str]:
    return _endpoint(addresses[0], from_port), _endpoint(addresses[1], to_port)


def _endpoint(address: bytes, port: int) -> str:
    return f"{IPv4Address(address)}:{port}" if len(address) == 4 else f"[{IPv6Address(address)}]:{port}"


def _exported(data: bytes, packet: Packet) -> Datagram:
    """Wireshark's "Export PDUs": tags with their values, then what a dissector was given (so also decrypted TLS)."""
    found: dict[int, bytes] = {}
    position = 0
    while True:
        tag, n_bytes = struct.unpack_from(">HH", data, position)
        position += 4
        if tag == 0:
            break
        found[tag] = data[position : position + n_bytes]
        position += n_bytes
    names = [found[tag] for tag in _EXPORTED_PROTOCOL if tag in found]
    if not any(name.rstrip(b"\0").startswith(b"sip") for name in names):
        raise _Skip("exported PDUs other than SIP")
    ends = []
    for side in range(2):
        address = found.get(_EXPORTED_IPV4[side]) or found.get(_EXPORTED_IPV6[side]) or bytes(4)
        if len(address) not in (4, 16):
            raise _Skip("damaged or cut packets")
        port = int.from_bytes(found.get(_EXPORTED_PORT[side], b"")[-4:], "big")
        ends.append(_endpoint(address, port))
    return Datagram(ends[0], ends[1], data[position:], packet.is_cut, "exported")
