"""Capture files: classic pcap (microseconds and nanoseconds, either byte order) and pcapng, also compressed by gzip.

Layout: libpcap's savefile format, and draft-ietf-opsawg-pcapng.  A file that ends within a packet, as one of a capture
that still runs does, gives what is whole.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import attrs

from ims_as.errors import ImsAsError

__all__ = ["MAX_CAPTURE_BYTES", "CaptureFile", "Packet", "PcapError", "is_capture_untrusted"]

MAX_CAPTURE_BYTES = 256 * 1024 * 1024
"""Of one file, after decompression."""
MAX_PACKET_BYTES = 262_144
"""Wireshark's own limit for most link types."""
MAX_PACKETS = 4_000_000
MAX_INTERFACES = 1000

_CLASSIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
}
_SECTION = b"\x0a\x0d\x0d\x0a"
_GZIP = b"\x1f\x8b"
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}

_INTERFACE_BLOCK, _OBSOLETE_BLOCK, _SIMPLE_BLOCK, _ENHANCED_BLOCK = 1, 2, 3, 6
_OPTION_END, _OPTION_RESOLUTION, _OPTION_OFFSET = 0, 9, 14


class PcapError(ImsAsError):
    """The file cannot be used as a capture; the text says why."""


@attrs.frozen
class Packet:
    number: int
    """Counted from 1, as Wireshark does."""
    time_s: float
    """Unix seconds; 0 where the file does not say."""
    link_type: int
    """LINKTYPE_ of tcpdump.org."""
    data: bytes
    is_cut: bool
    """There was more of it on the wire (snapshot length)."""


@attrs.frozen
class _Interface:
    link_type: int
    snapshot_bytes: int
    ticks_per_s: int
    offset_s: int


def is_capture_untrusted(data: bytes) -> bool:
    """Whether the bytes begin as a capture, compressed or not, does."""
    return data[:4] in _CLASSIC or data[:4] == _SECTION or data[:2] == _GZIP


@attrs.define
class CaptureFile:
    """The packets of one file, to be iterated once.

    Attributes:
        data: the file.
        is_cut_short: it ends within a packet; known after the iteration.
    """

    data: bytes
    is_cut_short: bool = False

    def packets_untrusted(self) -> Iterator[Packet]:
        """In the order of the file.

        Raises:
            PcapError: no capture file, or one that is broken or too large; what came before is good.
        """
        if self.data[:2] == _GZIP:
            self.data = self._unpack(self.data)
        if len(self.data) > MAX_CAPTURE_BYTES:
            raise PcapError(_too_large("bytes", MAX_CAPTURE_BYTES))
        if self.data[:4] in _CLASSIC:
            return self._classic()
        if self.data[:4] == _SECTION:
            return self._blocks()
        raise PcapError("no capture file: neither pcap nor pcapng")

    def _unpack(self, data: bytes) -> bytes:
        decompressor = zlib.decompressobj(31)
        try:
            unpacked = decompressor.decompress(data, MAX_CAPTURE_BYTES + 1)
        except zlib.error as error:
            raise PcapError(f"gzip: {error}") from None
        self.is_cut_short = not decompressor.eof
        return unpacked

    def _classic(self) -> Iterator[Packet]:
        data = self.data
        order, ticks_per_s = _CLASSIC[data[:4]]
        if len(data) < 24:
            raise PcapError("it ends within the file header")
        link_type = struct.unpack_from(order + "I", data, 20)[0] & 0x0FFFFFFF
        header = struct.Struct(order + "IIII")
        position, number = 24, 0
        while position < len(data):
            if position + 16 > len(data):
                self.is_cut_short = True
                return
            seconds, ticks, n_bytes, n_on_wire = header.unpack_from(data, position)
            number += 1
            _check_packet(number, n_bytes)
            position += 16
            if position + n_bytes > len(data):
                self.is_cut_short = True
                return
            packet = data[position : position + n_bytes]
            yield Packet(number, seconds + ticks / ticks_per_s, link_type, packet, n_bytes < n_on_wire)
            position += n_bytes

    def _blocks(self) -> Iterator[Packet]:
        data = self.data
        order, number, position = "<", 0, 0
        interfaces: list[_Interface] = []
        while position < len(data):
            if position + 12 > len(data):
                self.is_cut_short = True
                return
            if data[position : position + 4] == _SECTION:
                found = _ORDERS.get(data[position + 8 : position + 12])
                if found is None:
                    raise PcapError(f"byte {position}: a section without byte order")
                order, interfaces = found, []
            kind, n_bytes = struct.unpack_from(order + "II", data, position)
            if n_bytes < 12 or n_bytes % 4:
                raise PcapError(f"byte {position}: a block of {n_bytes} bytes")
            if position + n_bytes > len(data):
                self.is_cut_short = True
                return
            body = data[position + 8 : position + n_bytes - 4]
            position += n_bytes
            if kind == _INTERFACE_BLOCK:
                if len(interfaces) >= MAX_INTERFACES:
                    raise PcapError(_too_large("interfaces", MAX_INTERFACES))
                interfaces.append(_read_interface(body, order))
            elif kind in (_ENHANCED_BLOCK, _OBSOLETE_BLOCK, _SIMPLE_BLOCK):
                number += 1
                yield _read_packet(kind, body, order, interfaces, number)


def _too_large(what: str, limit: int) -> str:
    return f"more than {limit} {what}: cut it with `tshark -r FILE -Y sip -w SMALLER`"


def _check_packet(number: int, n_bytes: int) -> None:
    if number > MAX_PACKETS:
        raise PcapError(_too_large("packets", MAX_PACKETS))
    if n_bytes > MAX_PACKET_BYTES:
        raise PcapError(f"packet {number} has {n_bytes} bytes: the file is damaged")


def _read_interface(body: bytes, order: str) -> _Interface:
    if len(body) < 8:
        raise PcapError("an interface description is too short")
    link_type, _, snapshot_bytes = struct.unpack_from(order + "HHI", body)
    ticks_per_s, offset_s, position = 1_000_000, 0, 8
    while position + 4 <= len(body):
        code, n_bytes = struct.unpack_from(order + "HH", body, position)
        value = body[position + 4 : position + 4 + n_bytes]
        position += 4 + (n_bytes + 3) // 4 * 4
        if code == _OPTION_END:
            break
        if code == _OPTION_RESOLUTION and value:
            exponent = value[0] & 0x7F
            if exponent > 63:
                raise PcapError(f"time stamps of 2 or 10 to the power of -{exponent} seconds")
            ticks_per_s = 2**exponent if value[0] & 0x80 else 10**exponent
        elif code == _OPTION_OFFSET and len(value) == 8:
            offset_s = struct.unpack(order + "q", value)[0]
    return _Interface(link_type, snapshot_bytes, ticks_per_s, offset_s)


def _read_packet(kind: int, body: bytes, order: str, interfaces: list[_Interface], number: int) -> Packet:
    ticks: int | None
    try:
        if kind == _ENHANCED_BLOCK:
            index, high, low, n_bytes, n_on_wire = struct.unpack_from(order + "IIIII", body)
            ticks, start = high << 32 | low, 20
        elif kind == _OBSOLETE_BLOCK:
            index, _, high, low, n_bytes, n_on_wire = struct.unpack_from(order + "HHIIII", body)
            ticks, start = high << 32 | low, 20
        else:
            (n_on_wire,) = struct.unpack_from(order + "I", body)
            index, ticks, start = 0, None, 4
            n_bytes = min(n_on_wire, len(body) - 4)
            if interfaces and interfaces[0].snapshot_bytes:
                n_bytes = min(n_bytes, interfaces[0].snapshot_bytes)
    except struct.error:
        raise PcapError(f"packet {number}: its block is too short") from None
    _check_packet(number, n_bytes)
    if index >= len(interfaces):
        raise PcapError(f"packet {number} is of interface {index}, which the file does not describe")
    if start + n_bytes > len(body):
        raise PcapError(f"packet {number} is longer than its block")
    interface = interfaces[index]
    time_s = 0.0 if ticks is None else interface.offset_s + ticks / interface.ticks_per_s
    return Packet(number, time_s, interface.link_type, body[start : start + n_bytes], n_bytes < n_on_wire)
