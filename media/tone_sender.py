"""Digits that are played: the tones of ITU-T Q.23, in turns of 20 ms, for a party without telephone-event.

The low tone has -9 dBm0, the high one -7 dBm0, since lines weaken high tones more.  Tones begin and end within
5 ms, so that there is no click.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.dtmf import DtmfSender, ToneSlot
from media.table import TAIL_SAMPLES
from media.tones import HIGH_HZ, KEYS, LOW_HZ, amplitude_of

__all__ = ["HIGH_DBM0", "LOW_DBM0", "fade_out", "tone_frame"]

LOW_DBM0: Final = -9.0
HIGH_DBM0: Final = -7.0
_EDGES_PER_FRAME: Final = 4
"""An edge lasts 5 ms."""


def tone_frame(slot: ToneSlot | None, size: int) -> NDArray[np.float32]:
    """20 ms in ``size`` samples; None: of a pause."""
    if slot is None:
        return np.zeros(size, np.float32)
    return _tone(slot.digit, size)[slot.number * size : (slot.number + 1) * size].copy()


@cache
def _tone(digit: str, size: int) -> NDArray[np.float32]:
    """A whole tone."""
    n_samples = size * DtmfSender.TONE_SLOTS
    number = KEYS.index(digit)
    turns = 2 * np.pi * np.arange(n_samples) / (size * 50)
    low = amplitude_of(LOW_DBM0) * np.sin(turns * LOW_HZ[number // 4])
    high = amplitude_of(HIGH_DBM0) * np.sin(turns * HIGH_HZ[number % 4])
    n_edge = size // _EDGES_PER_FRAME
    edge = 0.5 - 0.5 * np.cos(np.pi * np.arange(n_edge) / n_edge)
    shape = np.concatenate([edge, np.ones(n_samples - 2 * n_edge), edge[::-1]])
    return np.asarray((low + high) * shape, np.float32)


def fade_out(line: NDArray[np.float32], tail: NDArray[np.float32]) -> NDArray[np.float32]:
    """What was heard last fades away under the beginning of ``line``: its mirror image, as at any change of source."""
    n_tail = TAIL_SAMPLES * len(line) // 160
    ramp = np.linspace(1, 0, n_tail, dtype=np.float32)
    line[:n_tail] += tail[:n_tail][::-1] * ramp
    return line
