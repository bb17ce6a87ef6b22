"""Levels and voice activity of many legs, one frame each.

The level is compared with a noise floor that falls at once and rises slowly.  Speech begins after `ONSET_FRAMES` loud
frames, or after `STRONG_ONSET_FRAMES` of which one leaves no doubt, and ends after `HANGOVER_FRAMES` quiet ones; its
true beginning is the first of the loud ones, its true end the first of the quiet ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HANGOVER_FRAMES", "ONSET_FRAMES", "STRONG_ONSET_FRAMES", "VadColumns"]

ONSET_FRAMES: Final = 3
STRONG_ONSET_FRAMES: Final = 2
"""A caller who interrupts is to be noticed soon; who murmurs is not."""
HANGOVER_FRAMES: Final = 15
"""300 ms: pauses inside words are shorter."""
_MARGIN_POWER: Final = np.float32(8.0)
"""Speech is 9 dB above the noise floor …"""
_MIN_POWER: Final = np.float32(100.0**2)
"""… and louder than 100 rms (-50 dBov)."""
_STRONG: Final = np.float32(4.0)
"""6 dB above both is strong …"""
_MIN_STRONG: Final = np.float32(207.0**2)
"""… and above -44 dBov."""
_LOUD_POINTS: Final = 2
_STRONG_POINTS: Final = 3
_ONSET_POINTS: Final = _LOUD_POINTS + _STRONG_POINTS
"""Three loud frames, or two of which one is strong."""
_HANGOVER_POINTS: Final = _LOUD_POINTS * HANGOVER_FRAMES
_RISE: Final = np.float32(1.02)
"""The floor rises 4.3 dB per second at 50 frames."""
_MAX_FLOOR: Final = np.float32(1000.0**2)
_INITIAL_FLOOR: Final = np.float32(60.0**2)


class VadColumns:
    """State of all legs.

    Attributes:
        power: mean square of the last frame, float32.
        is_speech: whether the leg is inside speech.
        onset: how many frames ago the speech that has just been noticed began, this one included.
    """

    def __init__(self, capacity: int) -> None:
        self.power = np.zeros(capacity, np.float32)
        self.floor = np.full(capacity, _INITIAL_FLOOR, np.float32)
        self.is_speech = np.zeros(capacity, np.bool_)
        self.onset = np.zeros(capacity, np.int16)
        self._run = np.zeros(capacity, np.int16)
        """Points towards a change: a loud frame has two and a strong one three, a quiet one in speech two."""

    def reset(self, row: int) -> None:
        self.power[row] = 0
        self.floor[row] = _INITIAL_FLOOR
        self.is_speech[row] = False
        self._run[row] = 0

    def update(self, rows: NDArray[np.intp], frames: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Measures one frame of each leg.

        Args:
            rows: legs, each at most once, shape (n,).
            frames: shape (n, n_samples), in the range of int16.

        Returns:
            the legs on which speech began, and those on which it ended `HANGOVER_FRAMES` ago.
        """
        power = np.einsum("ij,ij->i", frames, frames) / np.float32(frames.shape[1])
        floor = self.floor[rows]
        threshold = np.maximum(floor * _MARGIN_POWER, _MIN_POWER)
        loud = power > threshold
        self.power[rows] = power
        self.floor[rows] = np.minimum(np.minimum(power, floor * _RISE) + 1, _MAX_FLOOR)
        speaking = self.is_speech[rows]
        strong = (power > np.maximum(threshold * _STRONG, _MIN_STRONG)) & ~speaking
        before = self._run[rows]
        run = np.where(loud != speaking, before + _LOUD_POINTS + strong, 0).astype(np.int16)
        switch = run >= np.where(speaking, _HANGOVER_POINTS, _ONSET_POINTS)
        if not switch.any():
            self._run[rows] = run
            none = rows[:0]
            return none, none
        run[switch] = 0
        self.onset[rows[switch]] = np.where(before[switch] <= _STRONG_POINTS, STRONG_ONSET_FRAMES, ONSET_FRAMES)
        self._run[rows] = run
        self.is_speech[rows] = speaking ^ switch
        return rows[switch & ~speaking], rows[switch & speaking]
