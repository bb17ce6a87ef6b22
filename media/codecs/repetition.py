"""Concealment for codecs whose decoder has none: the last pitch period is repeated and faded, as `media.conceal` does.

After ITU-T G.711 Appendix I in its idea, at any rate, for one stream. It runs for lost frames alone; what a good frame
costs is the copy of its end.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["Repetition"]

_GAINS: Final = (1.0, 0.8, 0.4, 0.0)
"""At the beginning of the first lost 20 ms, and at the end of each; after 60 ms there is silence."""


class Repetition:
    """One stream's.

    Args:
        rate_hz: of the samples, at most 16000.
    """

    def __init__(self, rate_hz: int) -> None:
        ms = rate_hz // 1000
        self._size = 20 * ms
        self._overlap = 5 * ms
        self._template = 10 * ms
        self._min_lag, self._max_lag = 5 * ms, 20 * ms
        self._history = np.zeros(40 * ms, np.float32)
        self._period = self._history[:0]
        self._run = 0

    def conceal(self) -> NDArray[np.int16]:
        """20 ms in place of what is lost."""
        run = self._run
        self._run += 1
        if run >= len(_GAINS) - 1:
            return np.zeros(self._size, np.int16)
        if run == 0:
            self._period = self._history[-self._best_lag() :].copy()
        gain = np.linspace(_GAINS[run], _GAINS[run + 1], self._size, dtype=np.float32)
        return (self._stretch(run, self._size) * gain).astype(np.int16)

    def receive(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """What is heard of good samples: after a loss they are faded into."""
        run, self._run = self._run, 0
        size = len(self._history)
        if 0 < run < len(_GAINS) and len(samples) >= self._overlap:
            n = self._overlap
            ramp = np.linspace(0, 1, n, dtype=np.float32)
            tail = self._stretch(run, n) * _GAINS[run]
            samples = samples.copy()
            samples[:n] = samples[:n] * ramp + tail * (1 - ramp)
        if len(samples) >= size:
            self._history[:] = samples[-size:]
        elif len(samples):
            self._history[: -len(samples)] = self._history[len(samples) :].copy()
            self._history[-len(samples) :] = samples
        return samples

    def _stretch(self, run: int, length: int) -> NDArray[np.float32]:
        at = np.arange(run * self._size, run * self._size + length)
        found: NDArray[np.float32] = self._period[at % len(self._period)]
        return found

    def _best_lag(self) -> int:
        """The lag of highest normalised correlation with the last 10 ms."""
        end = len(self._history) - self._template
        template = self._history[end:]
        before = self._history[end - self._max_lag : end - self._min_lag + self._template]
        windows = sliding_window_view(before, self._template)
        score = windows @ template / np.sqrt(np.einsum("wk,wk->w", windows, windows) + 1.0)
        return self._max_lag - int(np.argmax(score))
