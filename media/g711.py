"""G.711 µ-law and A-law as table look-ups over columns.

Codecs are numbered so that a column of legs can mix them: ``CODECS["PCMU"] == 0``, ``CODECS["PCMA"] == 1``.  Both
directions are one ``take`` from a flat table that holds the codecs one after the other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CODECS", "SILENCE", "decode", "encode"]

CODECS: Final = {"PCMU": 0, "PCMA": 1}
SILENCE: Final = np.array([0xFF, 0xD5], np.uint8)
"""The code of sample value 0 (A-law has none: its smallest, +8), by codec number."""

_BIAS: Final = 132  # G.711 Table 2a: decision values are offset by 33 in 14 bits, 132 in 16
_CLIP: Final = 32635


def _ulaw_decode_table() -> NDArray[np.int16]:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + _BIAS) << ((code & 0x70) >> 4)) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_decode_table() -> NDArray[np.int16]:
    code = np.arange(256) ^ 0x55
    segment = (code & 0x70) >> 4
    magnitude = ((code & 0x0F) << 4) + 8
    magnitude = np.where(segment > 0, (magnitude + 0x100) << np.maximum(segment - 1, 0), magnitude)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _segment_of(magnitude: NDArray[np.int64], first_bit: int) -> NDArray[np.int64]:
    """Number of the highest set bit above ``first_bit``, 0 to 7."""
    segment = np.zeros_like(magnitude)
    for bit in range(1, 8):
        segment += magnitude >= 1 << (first_bit + bit)
    return segment


def _samples() -> NDArray[np.int64]:
    """Every 16-bit sample in the order of its unsigned value, which is the order of the encoding table."""
    return np.arange(65536).astype(np.uint16).view(np.int16).astype(np.int64)


def _ulaw_encode_table() -> NDArray[np.uint8]:
    sample = _samples()
    magnitude = np.minimum(np.abs(sample), _CLIP) + _BIAS
    segment = _segment_of(magnitude, 7)
    code = (segment << 4) | ((magnitude >> (segment + 3)) & 0x0F) | np.where(sample < 0, 0x80, 0)
    return np.asarray(~code & 0xFF, np.uint8)


def _alaw_encode_table() -> NDArray[np.uint8]:
    sample = _samples()
    magnitude = np.where(sample < 0, -sample - 1, sample)
    segment = _segment_of(magnitude, 7)
    code = (segment << 4) | ((magnitude >> (np.maximum(segment, 1) + 3)) & 0x0F) | np.where(sample < 0, 0, 0x80)
    return np.asarray((code ^ 0x55) & 0xFF, np.uint8)


_DECODE: Final = np.concatenate([_ulaw_decode_table(), _alaw_decode_table()]).astype(np.float32)
_ENCODE: Final = np.concatenate([_ulaw_encode_table(), _alaw_encode_table()])


def decode(codes: NDArray[np.uint8], codec: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Codes to samples.

    Args:
        codes: shape (n_legs, n_samples).
        codec: codec number of each leg, shape (n_legs,).

    Returns:
        float32, same shape, in the range of int16.
    """
    if not codec.any():
        return np.take(_DECODE, codes)
    return np.take(_DECODE, codes + (codec.astype(np.uint16) << 8)[:, None])


def encode(samples: NDArray[np.float32], codec: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Samples (float32 in the range of int16; rounded and clipped here, in place) to codes; shapes as in `decode`."""
    np.rint(samples, out=samples)
    np.clip(samples, -32768, 32767, out=samples)
    index = samples.astype(np.int16).view(np.uint16)
    if codec.any():
        return np.asarray(_ENCODE.take(index + (codec.astype(np.int32) << 16)[:, None]))
    return np.asarray(_ENCODE.take(index))
