"""`media.conceal` for one stream whose decoder conceals nothing. What a good frame costs is the copy of its end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from media.conceal import FADE_MS, FRAME_MS, HISTORY_MS, continued, cross_fade, pitch_period

__all__ = ["Repetition"]


class Repetition:
    """One stream's.

    Args:
        rate_hz: of the samples, at most 16000.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._size = FRAME_MS * rate_hz // 1000
        self._history = np.zeros(HISTORY_MS * rate_hz // 1000, np.float32)
        self._period = self._history[:0]
        self._run = 0

    def conceal(self) -> NDArray[np.int16]:
        """20 ms in place of what is lost."""
        run = self._run
        self._run += 1
        if run * FRAME_MS >= FADE_MS:
            return np.zeros(self._size, np.int16)
        if run == 0:
            self._period = pitch_period(self._history, self._rate_hz)
        return continued(self._period, run, self._size, self._rate_hz).astype(np.int16)

    def receive(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """What is heard of good samples: after a loss they are faded into."""
        run, self._run = self._run, 0
        size = len(self._history)
        if run:
            faded = samples.astype(np.float32)
            cross_fade(faded, self._period, run, self._rate_hz)
            samples = faded.astype(np.int16)
        if len(samples) >= size:
            self._history[:] = samples[-size:]
        elif len(samples):
            self._history[: -len(samples)] = self._history[len(samples) :].copy()
            self._history[-len(samples) :] = samples
        return samples
