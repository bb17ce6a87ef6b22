"""RTP packets, RFC 3550 §5.1: the scalar reader for any packet, and columns for the packets that all look alike.

Nearly every packet of a call has no CSRC, no extension, no padding and one frame of audio, so that its header is at
fixed places: `HeaderColumns` reads those of a whole block at once, `PacketBlock` writes them.  A packet that looks
different is read by `parse_rtp_untrusted`.
"""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HEADER_BYTES",
    "MAX_PACKET_BYTES",
    "HeaderColumns",
    "PacketBlock",
    "RtpPacket",
    "RtpParseError",
    "build_rtp",
    "parse_rtp_untrusted",
    "row_views",
]

HEADER_BYTES: Final = 12
MAX_PACKET_BYTES: Final = 1536
"""No datagram of telephony audio is larger than an Ethernet frame; what is, is cut and fails to parse."""
MAX_PAYLOAD_BYTES: Final = 1440
"""180 ms of G.711, more than any packetisation time in use (RFC 3551 suggests at most 200 ms, gateways use ≤ 60)."""


class RtpParseError(Exception):
    """Not an RTP packet that we can use."""


@attrs.frozen(slots=True)
class RtpPacket:
    """One parsed packet."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse_rtp_untrusted(datagram: bytes | memoryview) -> RtpPacket:
    """Reads one packet, RFC 3550 §5.1 and §5.3.1.

    Raises:
        RtpParseError: wrong version, lengths that do not fit the datagram, empty or oversized payload.
    """
    size = len(datagram)
    if size <= HEADER_BYTES:
        raise RtpParseError("short")
    first = datagram[0]
    if first >> 6 != 2:
        raise RtpParseError("version")
    start = HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:
        if size < start + 4:
            raise RtpParseError("extension")
        start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
    end = size
    if first & 0x20:
        padding = datagram[-1]
        if padding == 0:
            raise RtpParseError("padding")
        end -= padding
    if not start < end:
        raise RtpParseError("no payload")
    if end - start > MAX_PAYLOAD_BYTES:
        raise RtpParseError("payload too long")
    return RtpPacket(
        payload_type=datagram[1] & 0x7F,
        marker=bool(datagram[1] & 0x80),
        sequence=int.from_bytes(datagram[2:4], "big"),
        timestamp=int.from_bytes(datagram[4:8], "big"),
        ssrc=int.from_bytes(datagram[8:12], "big"),
        payload=bytes(datagram[start:end]),
    )


def build_rtp(*, payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, payload: bytes) -> bytes:
    """One packet, for the few that are not built as columns (telephone events)."""
    return (
        bytes([0x80, payload_type | (0x80 if marker else 0)])
        + (sequence & 0xFFFF).to_bytes(2, "big")
        + (timestamp & 0xFFFFFFFF).to_bytes(4, "big")
        + ssrc.to_bytes(4, "big")
        + payload
    )


def row_views(block: NDArray[np.uint8]) -> list[memoryview]:
    """One memoryview per row of a C-contiguous block, made once, for the calls of sockets."""
    width = block.shape[1]
    flat = block.data.cast("B")
    return [flat[i * width : (i + 1) * width] for i in range(len(block))]


class HeaderColumns:
    """Views of the fixed header fields of a packet block, shape (n_rows, width), width a multiple of 4.

    The views alias the block, so they always show what was received last.

    Attributes:
        first: the first two octets as a little-endian number without the marker bit: equal to `first_of` of the
            payload type for a packet without padding, extension and CSRC.
    """

    def __init__(self, block: NDArray[np.uint8]) -> None:
        self._first = block[:, 0:2].view("<u2")[:, 0]
        self.sequence = block[:, 2:4].view(">u2")[:, 0]
        self.timestamp = block[:, 4:8].view(">u4")[:, 0]
        self.ssrc = block[:, 8:12].view(">u4")[:, 0]

    def first(self, n_rows: int) -> NDArray[np.uint16]:
        first: NDArray[np.uint16] = self._first[:n_rows] & np.uint16(0x7FFF)
        return first

    @staticmethod
    def first_of(payload_type: int) -> int:
        return 0x80 | payload_type << 8


class PacketBlock:
    """Packets of equal payload size, written as columns.

    Attributes:
        views: one memoryview per row, made once, to be handed to ``send``.
        payload: shape (n_rows, payload_bytes).
    """

    def __init__(self, n_rows: int, payload_bytes: int) -> None:
        width = HEADER_BYTES + payload_bytes
        block = np.zeros((n_rows, width), np.uint8)
        block[:, 0] = 0x80
        self._second = block[:, 1]
        self._sequence = block[:, 2:4].view(">u2")[:, 0]
        self._timestamp = block[:, 4:8].view(">u4")[:, 0]
        self._ssrc = block[:, 8:12].view(">u4")[:, 0]
        self.payload = block[:, HEADER_BYTES:]
        self.views = row_views(block)

    def write_headers(
        self,
        payload_type: NDArray[np.uint8],
        marker: NDArray[np.bool_],
        sequence: NDArray[np.uint16],
        timestamp: NDArray[np.uint32],
        ssrc: NDArray[np.uint32],
    ) -> None:
        """Writes the first rows; all arguments shape (n,)."""
        n = len(sequence)
        self._second[:n] = payload_type | (marker.view(np.uint8) << 7)
        self._sequence[:n] = sequence
        self._timestamp[:n] = timestamp
        self._ssrc[:n] = ssrc
