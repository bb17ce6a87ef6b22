"""Files of clips: WAV of any kind of PCM, and Ogg/Opus; what is in them is taken for hostile."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media import g711
from media.codecs.base import CodecError
from media.record.ogg import OggError
from media.record.opus_file import read_opus_untrusted

__all__ = ["MAX_CLIP_BYTES", "MAX_CLIP_S", "ClipError", "read_clip", "read_clip_untrusted"]

MAX_CLIP_S: Final = 600
MAX_CLIP_BYTES: Final = 128 << 20
MAX_CHANNELS: Final = 32
_OPUS_RATE_HZ: Final = 48000
_PCM, _FLOAT, _A_LAW, _U_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


class ClipError(Exception):
    """The file cannot be played."""


def read_clip(path: Path) -> tuple[NDArray[np.float32], int]:
    """Mono samples in the range of int16, and their rate in Hz.

    Raises:
        ClipError: unreadable, or nothing that we play.
    """
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_CLIP_BYTES + 1)
    except OSError as error:
        raise ClipError(f"{path}: {error}") from error
    try:
        return read_clip_untrusted(octets)
    except ClipError as error:
        raise ClipError(f"{path}: {error}") from error


def read_clip_untrusted(octets: bytes) -> tuple[NDArray[np.float32], int]:
    """The same of a file's content.  Raises ClipError."""
    if len(octets) > MAX_CLIP_BYTES:
        raise ClipError(f"larger than {MAX_CLIP_BYTES >> 20} MB")
    if octets[:4] == b"OggS":
        try:
            samples = read_opus_untrusted(octets, MAX_CLIP_S)
        except (OggError, CodecError) as error:
            raise ClipError(str(error)) from error
        return _mono(samples.astype(np.float32)), _OPUS_RATE_HZ
    if octets[:4] in (b"RIFF", b"RF64") and octets[8:12] == b"WAVE":
        return _read_wav_untrusted(octets)
    raise ClipError("neither WAV nor Ogg/Opus")


def _read_wav_untrusted(octets: bytes) -> tuple[NDArray[np.float32], int]:
    form: bytes | None = None
    at = 12
    while at + 8 <= len(octets):
        name, size = octets[at : at + 4], int.from_bytes(octets[at + 4 : at + 8], "little")
        if name == b"fmt ":
            form = octets[at + 8 : at + 8 + min(size, 64)]
        elif name == b"data":
            if form is None:
                raise ClipError("no format before the samples")
            # of a stream, or of RF64, the size is unknown or elsewhere: to the end
            return _read_samples(form, memoryview(octets)[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    raise ClipError("no samples")


def _read_samples(form: bytes, data: memoryview) -> tuple[NDArray[np.float32], int]:
    if len(form) < 16:
        raise ClipError("no format")
    kind, channels, rate_hz, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if kind == _EXTENSIBLE and len(form) >= 26:
        (kind,) = struct.unpack_from("<H", form, 24)
    if not 1 <= channels <= MAX_CHANNELS or not 2000 <= rate_hz <= 384000:
        raise ClipError(f"{channels} channels at {rate_hz} Hz")
    width = block // channels
    if width * channels != block or not 1 <= width <= 8:
        raise ClipError(f"blocks of {block} octets")
    n = len(data) // block
    if n > MAX_CLIP_S * rate_hz:
        raise ClipError(f"longer than {MAX_CLIP_S} s")
    if not n:
        raise ClipError("empty")
    samples = _decode(kind, width, bits, data[: n * block])
    return _mono(samples.reshape(-1, channels)), rate_hz


def _decode(kind: int, width: int, bits: int, data: memoryview) -> NDArray[np.float32]:
    """In the range of int16."""
    match kind, width:
        case 1, 1:
            return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) * 256
        case 1, 2:
            return np.frombuffer(data, "<i2").astype(np.float32)
        case 1, 3:
            octets = np.frombuffer(data, np.uint8).reshape(-1, 3)
            upper = octets[:, 1:].copy().view("<i2")[:, 0].astype(np.float32)
            return upper + octets[:, 0] * np.float32(1 / 256)
        case 1, 4:
            return np.frombuffer(data, "<i4").astype(np.float32) * np.float32(1 / 65536)
        case 3, 4 | 8:
            wide = np.frombuffer(data, "<f4" if width == 4 else "<f8")
            tamed: NDArray[np.float32] = np.clip(np.nan_to_num(wide), -1, 1).astype(np.float32) * np.float32(32767)
            return tamed
        case ((6 | 7), 1):
            codes = np.frombuffer(data, np.uint8)[None, :]
            codec = g711.CODECS["PCMA" if kind == _A_LAW else "PCMU"]
            decoded: NDArray[np.float32] = g711.decode(codes, np.array([codec], np.uint8))[0]
            return decoded
    raise ClipError(f"samples of kind {kind} with {bits} bits")


def _mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    mixed: NDArray[np.float32] = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return mixed
