"""The RTP payload of AMR and AMR-WB (RFC 4867 §4), in both of its forms.

Which form a payload has is negotiated (``octet-align``) and never guessed: a payload that does not fit its form to the
last octet is refused. Frames are held as in the storage format (§5.3): one octet with frame type and quality, then the
bits, the first one first, padded with zeros; that is also what the coders take.

Interleaving, CRC and robust sorting are not spoken (they are refused in SDP).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from media.codecs.base import MAX_FRAMES, Parameters, PayloadError, Unpacked

__all__ = [
    "AMR",
    "AMR_WB",
    "NO_DATA",
    "NO_DATA_FRAME",
    "NO_REQUEST",
    "AmrFormat",
    "AmrKind",
    "frame_type",
    "is_octet_aligned",
]

NO_DATA: Final = 15
NO_REQUEST: Final = 15
NO_DATA_FRAME: Final = bytes([NO_DATA << 3 | 4])


@attrs.frozen
class AmrKind:
    """What differs between the two.

    Attributes:
        name: encoding name.
        bits: of the frame types, speech modes first, then SID (§ tables of TS 26.101 and TS 26.201).
        n_modes: speech modes.
        lost_types: frame types that stand for a frame which is not there.
        sample_rate_hz: also the RTP clock.
    """

    name: str
    bits: tuple[int, ...]
    n_modes: int
    lost_types: frozenset[int]
    sample_rate_hz: int

    @property
    def sid_type(self) -> int:
        return self.n_modes

    def frame_octets(self, kind: int) -> int:
        """Octets of the bits of a frame."""
        return (self.bits[kind] + 7) // 8


AMR: Final = AmrKind("AMR", (95, 103, 118, 134, 148, 159, 204, 244, 39), 8, frozenset({NO_DATA}), 8000)
AMR_WB: Final = AmrKind("AMR-WB", (132, 177, 253, 285, 317, 365, 397, 461, 477, 40), 9, frozenset({14, NO_DATA}), 16000)


def is_octet_aligned(parameters: Parameters) -> bool:
    """§8.1: bandwidth-efficient unless it says ``octet-align=1``."""
    return parameters.get("octet-align", "0").strip() == "1"


def frame_type(frame: bytes) -> int:
    """Of a frame in storage format."""
    return frame[0] >> 3 & 0x0F


class AmrFormat:
    """Payloads of one direction.

    Args:
        octet_aligned: §4.4; else bandwidth-efficient, §4.3.

    Attributes:
        mode_request: what our packets ask the peer to send (CMR), 15 for no wish.
    """

    def __init__(self, kind: AmrKind, *, octet_aligned: bool) -> None:
        self._kind = kind
        self._octet_aligned = octet_aligned
        self.mode_request = NO_REQUEST

    def unpack_untrusted(self, payload: bytes) -> Unpacked:
        """Raises PayloadError; a reserved frame type refuses the packet (§4.3.2)."""
        if not payload:
            raise PayloadError("empty payload")
        read = self._unpack_aligned_untrusted if self._octet_aligned else self._unpack_efficient_untrusted
        frames = read(payload)
        last = frames[-1]
        is_pause = last is None or frame_type(last) == self._kind.sid_type
        return Unpacked(frames, self._request_of(payload[0] >> 4), is_pause)

    def pack(self, frames: Sequence[bytes]) -> bytes:
        """Several frames make one packet; each must have the length of its type."""
        if self._octet_aligned:
            contents = bytearray([self.mode_request << 4])
            contents += bytes(frame[0] & 0x7C for frame in frames)
            for position in range(1, len(frames)):
                contents[position] |= 0x80
            for frame in frames:
                contents += frame[1:]
            return bytes(contents)
        bits, n_bits = self.mode_request, 4
        for position, frame in enumerate(frames, 1):
            bits = bits << 6 | (position < len(frames)) << 5 | frame[0] >> 2 & 0x1F
        n_bits += 6 * len(frames)
        for frame in frames:
            size = self._n_bits(frame_type(frame))
            if size:
                bits = bits << size | int.from_bytes(frame[1:], "big") >> (-size % 8)
                n_bits += size
        padding = -n_bits % 8
        return (bits << padding).to_bytes((n_bits + padding) // 8, "big")

    def _request_of(self, value: int) -> int | None:
        """§4.3.1: what is no mode of this codec is no wish."""
        return value if value < self._kind.n_modes else None

    def _n_bits(self, kind: int) -> int:
        bits = self._kind.bits
        return bits[kind] if kind < len(bits) else 0

    def _check_type(self, kind: int) -> None:
        if kind >= len(self._kind.bits) and kind not in self._kind.lost_types:
            raise PayloadError(f"frame type {kind}")

    def _unpack_aligned_untrusted(self, payload: bytes) -> tuple[bytes | None, ...]:
        position, heads = 1, []
        while True:
            if position >= len(payload):
                raise PayloadError("table of contents without end")
            entry = payload[position]
            position += 1
            self._check_type(entry >> 3 & 0x0F)
            heads.append(entry & 0x7C)
            if not entry & 0x80:
                break
            if len(heads) >= MAX_FRAMES:
                raise PayloadError("too many frames")
        frames: list[bytes | None] = []
        for head in heads:
            kind = head >> 3
            if kind in self._kind.lost_types:
                frames.append(None)
                continue
            end = position + self._kind.frame_octets(kind)
            frames.append(bytes([head]) + payload[position:end])
            position = end
        if position != len(payload):
            raise PayloadError(f"{len(payload)} octets, {position} announced")
        return tuple(frames)

    def _unpack_efficient_untrusted(self, payload: bytes) -> tuple[bytes | None, ...]:
        left = 8 * len(payload) - 4
        bits = int.from_bytes(payload, "big") & (1 << left) - 1
        heads = []
        while True:
            if left < 6:
                raise PayloadError("table of contents without end")
            left -= 6
            entry = bits >> left
            bits &= (1 << left) - 1
            self._check_type(entry >> 1 & 0x0F)
            heads.append(entry & 0x1F)
            if not entry & 0x20:
                break
            if len(heads) >= MAX_FRAMES:
                raise PayloadError("too many frames")
        frames: list[bytes | None] = []
        for head in heads:
            kind = head >> 1
            if kind in self._kind.lost_types:
                frames.append(None)
                continue
            size = self._kind.bits[kind]
            left -= size
            if left < 0:
                raise PayloadError("less bits than announced")
            octets = (bits >> left << (-size % 8)).to_bytes(self._kind.frame_octets(kind), "big")
            bits &= (1 << left) - 1
            frames.append(bytes([head << 2]) + octets)
        if left >= 8:
            raise PayloadError("more octets than announced")
        return tuple(frames)
