"""Files of clips: Ogg pages and Opus in them, WAV of any PCM."""

from __future__ import annotations

import os
import struct
import tempfile

import numpy as np

from media.clip_files import MAX_CLIP_S, ClipError, read_clip_untrusted
from media.record.ogg import (
    MAX_PACKET,
    OggError,
    build_page,
    checksum,
    iterate_packets_untrusted,
    iterate_pages_untrusted,
)
from media.record.opus_file import OpusFile
from media.record.wav import build_header
from tests.fuzz.target import Target

__all__ = ["CLIP_TARGETS"]


def _with_checksums(data: bytes) -> bytes:
    """What looks like a page gets its checksum: what is behind it would never be reached otherwise."""
    whole, at = bytearray(data), 0
    while (at := whole.find(b"OggS", at)) >= 0 and at + 27 <= len(whole):
        n_segments = whole[at + 26]
        end = at + 27 + n_segments + sum(whole[at + 27 : at + 27 + n_segments])
        if end > len(whole):
            break
        whole[at + 22 : at + 26] = bytes(4)
        whole[at + 22 : at + 26] = checksum(bytes(whole[at:end])).to_bytes(4, "little")
        at = end
    return bytes(whole)


def read_ogg(data: bytes) -> None:
    """Pages stand in the file one behind the other, and packets are no more than what is in them."""
    data = _with_checksums(data)
    pages = list(iterate_pages_untrusted(data))
    assert sum(page.size for page in pages) <= len(data)
    assert all(page.at == sum(each.size for each in pages[:i]) for i, page in enumerate(pages))
    packets = list(iterate_packets_untrusted(data))
    assert sum(len(packet) for packet, _ in packets) <= sum(len(page.body) for page in pages)
    assert all(len(packet) <= MAX_PACKET for packet, _ in packets)


def read_any(data: bytes) -> None:
    """What is played is finite, within range and not too long."""
    samples, rate_hz = read_clip_untrusted(_with_checksums(data) if data[:4] == b"OggS" else data)
    assert samples.ndim == 1
    assert 0 < len(samples) <= MAX_CLIP_S * rate_hz + 65535
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 32768


def _opus() -> bytes:
    with tempfile.TemporaryFile() as file:
        writer = OpusFile(file.fileno(), 8000)
        tone = np.sin(np.arange(2400) / 7)[:, None] * np.array([8000, 3000])
        writer.write(tone.astype(np.int16))
        writer.close()
        return os.pread(file.fileno(), 1 << 20, 0)


def _wav(kind: int, width: int, channels: int = 1, extra: bytes = b"") -> bytes:
    form = struct.pack("<HHIIHH", kind, channels, 8000, 8000 * width * channels, width * channels, 8 * width) + extra
    data = bytes(range(240)) * width
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
        + b"data" + struct.pack("<I", len(data)) + data
    )  # fmt: skip


_OPUS = _opus()
_PAGE = build_page([b"one", bytes(600)], flags=2, granule=5, serial=1, number=0)
_CONTINUED = build_page([bytes(300)], flags=1, granule=9, serial=1, number=1)
_WAVS = (
    *(_wav(1, width) for width in (1, 2, 3, 4)),
    _wav(3, 4),
    _wav(3, 8, 2),
    _wav(6, 1),
    _wav(7, 1, 2),
    _wav(0xFFFE, 2, 1, struct.pack("<HHIH", 22, 16, 0, 1) + bytes(14)),
    build_header(8000, 400) + bytes(400),
    build_header(8000, 5 << 30) + bytes(400),
)
_TOKENS = (b"OggS", b"OpusHead", b"RIFF", b"WAVE", b"fmt ", b"data", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff" * 20)
CLIP_TARGETS = (
    Target("ogg", read_ogg, (OggError,), (_OPUS, _PAGE + _CONTINUED), _TOKENS),
    Target("clip", read_any, (ClipError,), (_OPUS, *_WAVS), _TOKENS),
)
