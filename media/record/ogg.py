"""Ogg pages (RFC 3533), written and read: one logical stream, as RFC 7845 has it for Opus."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

__all__ = [
    "BEGIN",
    "END",
    "MAX_PACKET",
    "OggError",
    "Page",
    "build_page",
    "checksum",
    "iterate_packets_untrusted",
    "iterate_pages_untrusted",
]

MAX_PACKET: Final = 65025
"""Longer packets are refused: no Opus packet is, and comments as long as that are none of ours."""
BEGIN: Final = 2
END: Final = 4
CONTINUED: Final = 1
_HEADER: Final = struct.Struct("<4sBBqIIIB")
_CRC_AT: Final = 22
_REVERSED: Final = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


class OggError(Exception):
    """Not a stream that we read."""


@attrs.frozen(slots=True)
class Page:
    """One page.

    Attributes:
        granule: of the last packet that ends here, -1: none does.
        at: where it begins in the file.
    """

    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    body: bytes
    at: int = 0

    @property
    def size(self) -> int:
        return _HEADER.size + len(self.lacing) + len(self.body)


def checksum(page: bytes) -> int:
    """CRC of RFC 3533 §6: Ethernet's polynomial, but the other bit first, from zero, and nothing inverted."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")


def build_page(packets: Sequence[bytes], *, flags: int, granule: int, serial: int, number: int) -> bytes:
    """Whole packets as one page.

    Raises:
        ValueError: more than a page can hold.
    """
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    if len(lacing) > 255:
        raise ValueError(f"{len(lacing)} segments")
    header = _HEADER.pack(b"OggS", 0, flags, granule, serial, number, 0, len(lacing))
    page = header + lacing + b"".join(packets)
    return page[:_CRC_AT] + checksum(page).to_bytes(4, "little") + page[_CRC_AT + 4 :]


def iterate_pages_untrusted(octets: bytes | memoryview) -> Iterator[Page]:
    """The pages from the beginning on, up to the first that is not whole.

    Raises:
        OggError: it does not begin with a page.
    """
    at = 0
    while at + _HEADER.size <= len(octets):
        magic, version, flags, granule, serial, number, crc, n_segments = _HEADER.unpack_from(octets, at)
        lacing = bytes(octets[at + _HEADER.size : at + _HEADER.size + n_segments])
        end = at + _HEADER.size + n_segments + sum(lacing)
        if magic != b"OggS" or version or len(lacing) < n_segments or end > len(octets):
            break
        page = bytes(octets[at:end])
        if checksum(page[:_CRC_AT] + bytes(4) + page[_CRC_AT + 4 :]) != crc:
            break
        yield Page(flags, granule, serial, number, lacing, page[_HEADER.size + n_segments :], at)
        at = end
    if at == 0:
        raise OggError("not an Ogg file")


def iterate_packets_untrusted(octets: bytes | memoryview) -> Iterator[tuple[bytes, int]]:
    """The packets of the first stream, and of each the granule of its page (-1: it is not the last that ends there).

    Raises:
        OggError: not an Ogg file, or a packet beyond `MAX_PACKET`.
    """
    serial: int | None = None
    parts = bytearray()
    is_lost = False
    """The beginning of what goes on was not there."""
    for page in iterate_pages_untrusted(octets):
        if serial is None:
            serial = page.serial
        if page.serial != serial:
            continue
        if not page.flags & CONTINUED:
            parts.clear()
            is_lost = False
        elif not parts:
            is_lost = True
        at = 0
        complete: list[bytes] = []
        for length in page.lacing:
            parts += page.body[at : at + length]
            at += length
            if len(parts) > MAX_PACKET:
                raise OggError(f"a packet of more than {MAX_PACKET} octets")
            if length < 255:
                if not is_lost:
                    complete.append(bytes(parts))
                parts.clear()
                is_lost = False
        for packet in complete[:-1]:
            yield packet, -1
        if complete:
            yield complete[-1], page.granule
        if page.flags & END:
            return
