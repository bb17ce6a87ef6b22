"""RTCP packets: reading and writing, RFC 3550 §6, and of extended reports (RFC 3611) the blocks for telephony.

A datagram is a compound of packets.  `parse_rtcp_untrusted` checks it as RFC 3550 A.2 says (version, lengths that add
up, padding at the end only), but takes reduced-size compounds (RFC 5506), which begin with any packet.  Packet types
and report blocks that we do not use are checked for their length and left out.  The blocks of extended reports are in
`media.rtcp_xr`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from media.rtcp_xr import ExtendedReport, RtcpParseError, build_xr_body, parse_xr_body_untrusted

__all__ = [
    "CNAME",
    "MAX_RTCP_BYTES",
    "NTP_UNIX_S",
    "Bye",
    "ReceiverReport",
    "ReportBlock",
    "RtcpPacket",
    "RtcpParseError",
    "SdesChunk",
    "SenderReport",
    "SourceDescription",
    "build_rtcp",
    "is_rtcp",
    "ntp_of",
    "parse_rtcp_untrusted",
]

MAX_RTCP_BYTES: Final = 1472
"""An Ethernet frame's worth; nobody with one stream says more."""
MAX_REPORTS: Final = 31
MAX_TEXT_BYTES: Final = 255
NTP_UNIX_S: Final = 2208988800
"""The NTP epoch is 1900."""
CNAME: Final = 1
"""SDES item."""
_SR: Final = 200
_RR: Final = 201
_SDES: Final = 202
_BYE: Final = 203
_XR: Final = 207
_FIRST_TYPE: Final = 192
_LAST_TYPE: Final = 223
_REPORT_BYTES: Final = 24
_U24: Final = 1 << 24


@attrs.frozen(slots=True)
class ReportBlock:
    """What one receiver says of one source, §6.4.1.

    Attributes:
        fraction_lost: since the report before, in 1/256.
        cumulative_lost: packets; negative when there were duplicates.
        highest_sequence: with the number of cycles in the upper 16 bits.
        jitter: in units of the RTP clock.
        last_sr: middle 32 bits of the NTP time of the source's last sender report, 0: none came.
        delay: since then, in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    last_sr: int
    delay: int

    def to_bytes(self) -> bytes:
        """Values beyond their field stay at its end (the loss, §A.3)."""
        lost = min(max(self.cumulative_lost, -_U24 // 2), _U24 // 2 - 1) % _U24
        words = (
            self.ssrc,
            min(self.fraction_lost, 255) << 24 | lost,
            self.highest_sequence & 0xFFFFFFFF,
            min(self.jitter, 0xFFFFFFFF),
            self.last_sr,
            min(self.delay, 0xFFFFFFFF),
        )
        return b"".join(word.to_bytes(4, "big") for word in words)


@attrs.frozen(slots=True)
class SenderReport:
    """§6.4.1.

    Attributes:
        ntp: wall clock in 1/2^32 s since 1900.
        rtp_timestamp: the same instant on the clock of the stream.
        packets, octets: sent since the stream began, octets of payload.
    """

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int
    reports: tuple[ReportBlock, ...] = ()


@attrs.frozen(slots=True)
class ReceiverReport:
    """§6.4.2."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()


@attrs.frozen(slots=True)
class SdesChunk:
    """Items of one source: type and text, at most 255 octets; as they came, for they are only compared."""

    ssrc: int
    items: tuple[tuple[int, bytes], ...]


@attrs.frozen(slots=True)
class SourceDescription:
    """§6.5."""

    chunks: tuple[SdesChunk, ...]


@attrs.frozen(slots=True)
class Bye:
    """§6.6; the reason is for people (what is not UTF-8 in it is kept as `surrogateescape` does)."""

    ssrcs: tuple[int, ...]
    reason: str = ""


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Bye | ExtendedReport


def is_rtcp(datagram: bytes | memoryview) -> bool:
    """Whether a datagram of a shared port is RTCP: RTP payload types 64 to 95 are not given to anybody, RFC 5761 §4."""
    return len(datagram) > 1 and _FIRST_TYPE <= datagram[1] <= _LAST_TYPE


def ntp_of(unix_s: float) -> int:
    """64 bits of NTP time; it begins anew in 2036."""
    return int((unix_s + NTP_UNIX_S) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


# ---- writing
def build_rtcp(packets: Iterable[RtcpPacket]) -> bytes:
    """A compound of the packets, in their order.

    Raises:
        ValueError: more reports or sources than a packet can hold, or a text that is too long.
    """
    return b"".join(_build(packet) for packet in packets)


def _build(packet: RtcpPacket) -> bytes:
    match packet:
        case SenderReport():
            body = (
                packet.ssrc.to_bytes(4, "big")
                + packet.ntp.to_bytes(8, "big")
                + packet.rtp_timestamp.to_bytes(4, "big")
                + (packet.packets & 0xFFFFFFFF).to_bytes(4, "big")
                + (packet.octets & 0xFFFFFFFF).to_bytes(4, "big")
            )
            return _with_header(_SR, len(packet.reports), body + _reports(packet.reports))
        case ReceiverReport():
            return _with_header(_RR, len(packet.reports), packet.ssrc.to_bytes(4, "big") + _reports(packet.reports))
        case SourceDescription():
            return _with_header(_SDES, len(packet.chunks), b"".join(map(_build_chunk, packet.chunks)))
        case Bye():
            body = b"".join(ssrc.to_bytes(4, "big") for ssrc in packet.ssrcs)
            reason = packet.reason.encode(errors="surrogateescape")
            if reason:
                body += _length_of(reason) + reason
                body += bytes(-len(body) % 4)
            return _with_header(_BYE, len(packet.ssrcs), body)
        case ExtendedReport():
            return _with_header(_XR, 0, build_xr_body(packet))


def _with_header(packet_type: int, count: int, body: bytes) -> bytes:
    if count > MAX_REPORTS:
        raise ValueError(f"{count} entries")
    return bytes([0x80 | count, packet_type]) + (len(body) // 4).to_bytes(2, "big") + body


def _reports(reports: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(report.to_bytes() for report in reports)


def _build_chunk(chunk: SdesChunk) -> bytes:
    octets = chunk.ssrc.to_bytes(4, "big")
    for kind, text in chunk.items:
        octets += bytes([kind]) + _length_of(text) + text
    return octets + bytes(4 - len(octets) % 4)  # at least one zero ends the list


def _length_of(text: bytes) -> bytes:
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError("text is too long")
    return bytes([len(text)])


# ---- reading
def parse_rtcp_untrusted(datagram: bytes | memoryview) -> tuple[RtcpPacket, ...]:
    """Reads a compound; packets of types that we do not use are left out.

    Raises:
        RtcpParseError: it is not RTCP, or some packet's contents do not fit its length.
    """
    octets = bytes(datagram)
    size = len(octets)
    if not 4 <= size <= MAX_RTCP_BYTES or size % 4:
        raise RtcpParseError("size")
    packets: list[RtcpPacket] = []
    start = 0
    while start < size:
        if size - start < 4:
            raise RtcpParseError("short")
        first, packet_type = octets[start], octets[start + 1]
        end = start + 4 + 4 * int.from_bytes(octets[start + 2 : start + 4], "big")
        if first >> 6 != 2 or not _FIRST_TYPE <= packet_type <= _LAST_TYPE:
            raise RtcpParseError("not RTCP")
        if end > size:
            raise RtcpParseError("length")
        body = octets[start + 4 : end]
        if first & 0x20:
            if end != size:
                raise RtcpParseError("padding before the end")
            body = _without_padding(body)
        if (packet := _parse(packet_type, first & 0x1F, body)) is not None:
            packets.append(packet)
        start = end
    return tuple(packets)


def _without_padding(body: bytes) -> bytes:
    padding = body[-1] if body else 0
    if not 0 < padding <= len(body) or padding % 4:
        raise RtcpParseError("padding")
    return body[:-padding]


def _parse(packet_type: int, count: int, body: bytes) -> RtcpPacket | None:
    match packet_type:
        case 200:
            reports = _parse_reports(body, 24, count)
            return SenderReport(
                ssrc=_u32(body, 0),
                ntp=int.from_bytes(body[4:12], "big"),
                rtp_timestamp=_u32(body, 12),
                packets=_u32(body, 16),
                octets=_u32(body, 20),
                reports=reports,
            )
        case 201:
            reports = _parse_reports(body, 4, count)
            return ReceiverReport(_u32(body, 0), reports)
        case 202:
            return SourceDescription(_parse_chunks(body, count))
        case 203:
            return _parse_bye(body, count)
        case 207:
            return parse_xr_body_untrusted(body)
        case _:
            return None


def _u32(octets: bytes, at: int) -> int:
    return int.from_bytes(octets[at : at + 4], "big")


def _parse_reports(body: bytes, start: int, count: int) -> tuple[ReportBlock, ...]:
    """What follows them is an extension of some profile."""
    if len(body) < start + count * _REPORT_BYTES:
        raise RtcpParseError("reports")
    return tuple(_parse_report(body, start + n * _REPORT_BYTES) for n in range(count))


def _parse_report(body: bytes, at: int) -> ReportBlock:
    lost = _u32(body, at + 4) & 0xFFFFFF
    return ReportBlock(
        ssrc=_u32(body, at),
        fraction_lost=body[at + 4],
        cumulative_lost=lost - _U24 if lost >= _U24 // 2 else lost,
        highest_sequence=_u32(body, at + 8),
        jitter=_u32(body, at + 12),
        last_sr=_u32(body, at + 16),
        delay=_u32(body, at + 20),
    )


def _parse_chunks(body: bytes, count: int) -> tuple[SdesChunk, ...]:
    chunks: list[SdesChunk] = []
    at, size = 0, len(body)
    for _ in range(count):
        if size - at < 8:
            raise RtcpParseError("chunk")
        ssrc = _u32(body, at)
        at += 4
        items: list[tuple[int, bytes]] = []
        while at < size and body[at]:
            if at + 2 > size or at + 2 + body[at + 1] > size:
                raise RtcpParseError("item")
            items.append((body[at], body[at + 2 : at + 2 + body[at + 1]]))
            at += 2 + body[at + 1]
        if at >= size:
            raise RtcpParseError("no end of items")
        at = (at + 4) // 4 * 4
        chunks.append(SdesChunk(ssrc, tuple(items)))
    return tuple(chunks)


def _parse_bye(body: bytes, count: int) -> Bye:
    end = 4 * count
    if len(body) < end:
        raise RtcpParseError("sources")
    reason = b""
    if len(body) > end:
        reason = body[end + 1 : end + 1 + body[end]]
        if len(reason) != body[end]:
            raise RtcpParseError("reason")
    return Bye(tuple(_u32(body, 4 * n) for n in range(count)), reason.decode(errors="surrogateescape"))
