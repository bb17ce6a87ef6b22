"""Batch polyphase FIR between a line and an engine's rate.

A streaming resampler such as soxr's holds back tens of milliseconds; this filter is linear phase with 24 taps per
phase, so it delays by 1.5 ms and holds nothing back.  The convolution is done as matrix products: a frame is cut into
blocks of 16 line samples, and each block together with the filter's memory is one row that a banded (Toeplitz) matrix
maps to the block's output.  That wastes a few multiplications and is several times faster in numpy than a loop over
taps.  The memory of each leg is a row of the caller's history column.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

__all__ = ["LINE_RATE_HZ", "TAPS_PER_PHASE", "WIDE_LINE_RATE_HZ", "Downsampler", "Resampler", "Upsampler"]

LINE_RATE_HZ: Final = 8000
WIDE_LINE_RATE_HZ: Final = 16000
"""Of legs with a wideband codec: their audio never passes through 8 kHz."""
TAPS_PER_PHASE: Final = 24
_BLOCK: Final = 16
"""Line samples per matrix row; 8 to 32 measured equal, larger is slower."""
_CUTOFF_HZ: Final = 3850
_KAISER_BETA: Final = 5.4
"""58 dB in the stop band with the transition from 3400 to 4600 Hz that 24 taps per phase allow."""


def _prototype(factor: int, cutoff_share: float = 2 * _CUTOFF_HZ / LINE_RATE_HZ) -> NDArray[np.float64]:
    """Windowed-sinc low-pass at ``factor`` times the lower rate, unity gain at 0 Hz, length 24 × factor.

    Args:
        cutoff_share: of half the lower rate.
    """
    n_taps = TAPS_PER_PHASE * factor
    position = np.arange(n_taps) - (n_taps - 1) / 2
    cutoff = cutoff_share / factor
    taps = cutoff * np.sinc(cutoff * position) * np.kaiser(n_taps, _KAISER_BETA)
    return np.asarray(taps / taps.sum())


class Upsampler:
    """Line rate to ``factor`` times the line rate.

    Attributes:
        history: samples of memory that precede each frame.
    """

    def __init__(self, factor: int) -> None:
        taps = _prototype(factor) * factor
        self.factor = factor
        self.history = TAPS_PER_PHASE - 1
        matrix = np.zeros((self.history + _BLOCK, _BLOCK * factor), np.float32)
        for i in range(_BLOCK):
            for phase in range(factor):
                matrix[i : i + TAPS_PER_PHASE, factor * i + phase] = taps[phase::factor][::-1]
        self._matrix = matrix

    def process(self, extended: NDArray[np.float32]) -> NDArray[np.float32]:
        """Filters C-contiguous ``extended``, shape (n_legs, history + n_in), n_in a multiple of 16.

        Returns:
            shape (n_legs, factor × n_in).
        """
        return _blockwise(extended, extended.shape[1] - self.history, _BLOCK, self._matrix)


class Downsampler:
    """``factor`` times the line rate to the line rate; attributes as `Upsampler`."""

    def __init__(self, factor: int) -> None:
        taps = _prototype(factor)
        self.factor = factor
        self.history = (TAPS_PER_PHASE - 1) * factor
        matrix = np.zeros((self.history + _BLOCK * factor, _BLOCK), np.float32)
        for i in range(_BLOCK):
            matrix[factor * i : factor * i + len(taps), i] = taps[::-1]
        self._matrix = matrix

    def process(self, extended: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Upsampler.process`; n_in a multiple of 16 × factor, returns (n_legs, n_in / factor)."""
        return _blockwise(extended, extended.shape[1] - self.history, _BLOCK * self.factor, self._matrix)


class Resampler:
    """Any ratio of the rates in use, such as 16 to 24 kHz; attributes as `Upsampler`.

    Raises:
        ValueError: a block of 16 samples of the lower rate has no whole number of the other's.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        common = math.gcd(from_hz, to_hz)
        up, down = to_hz // common, from_hz // common
        lower = min(up, down)
        if _BLOCK % lower:
            raise ValueError(f"{from_hz} to {to_hz} Hz")
        taps = _prototype(max(up, down)) * up
        self.history = (len(taps) - 1) // up
        self._step = _BLOCK * down // lower
        n_out = self._step * up // down
        matrix = np.zeros((self.history + self._step, n_out), np.float32)
        for i in range(n_out):
            newest = i * down // up
            for j in range(newest - self.history, newest + 1):
                tap = i * down - j * up
                if tap < len(taps):
                    matrix[self.history + j, i] = taps[tap]
        self._matrix = matrix

    def process(self, extended: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Upsampler.process`; 20 ms of every rate in use is a multiple of the block."""
        return _blockwise(extended, extended.shape[1] - self.history, self._step, self._matrix)


def _blockwise(extended: NDArray[np.float32], n_in: int, step: int, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    n_legs, n_blocks, width = extended.shape[0], n_in // step, matrix.shape[0]
    row, item = extended.strides
    windows = np.ascontiguousarray(
        as_strided(extended, (n_legs, n_blocks, width), (row, step * item, item), writeable=False)
    )
    return (windows.reshape(n_legs * n_blocks, width) @ matrix).reshape(n_legs, -1)
