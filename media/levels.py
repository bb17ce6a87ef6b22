"""How loud the two directions of a leg are, in columns: a histogram of frame powers, one bin per 3 dB.

One frame of four is counted (`is_due`), which says as much about a call and costs a quarter.  What is read from the
histogram when somebody asks: the active speech level after ITU-T P.56 method B (its margin of 15.9 dB between speech
level and threshold, without its hangover, so that short pauses count as pauses), the share of time with speech, and
the noise floor.  Levels are in dBov: 0 is the power of the loudest square wave.
"""

from __future__ import annotations

import math
from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray

from media.table import FRAME_TICKS

__all__ = ["AUDIBLE_POWER", "SAMPLED", "LevelMeter", "Levels", "is_due", "levels_of", "power_of"]

SAMPLED: Final = 4
"""One frame of so many is counted."""
BINS: Final = 32
AUDIBLE_POWER: Final = np.float32(100.0**2)
"""-50 dBov: below it nobody speaks."""
_LOUD_POWER: Final = np.float32(4096.0**2)
"""-18 dBov: a quieter frame has hardly anything cut off."""
_CLIPPED: Final = 31600
"""What a sample that was cut off reads as, at least: the greatest values of all coders are beyond."""
_MIN_CLIPPED: Final = 3
"""So many such samples make a clipped frame; fewer may be peaks."""
_OVERLOAD_DB: Final = 20 * math.log10(32768)
_MARGIN_DB: Final = 15.9
_BIN_DB: Final = 10 * math.log10(2)
_MEAN_DB: Final = 10 * math.log10(1 / math.log(2))
"""Mean power of a bin over its lower edge."""
_NOISE_SHARE: Final = 0.1
MIN_FRAMES: Final = 10


def is_due(tick: int) -> bool:
    """Whether frames of this tick are counted."""
    return tick // FRAME_TICKS % SAMPLED == 0


class LevelMeter:
    """Counts the frames of one direction.

    Args:
        histogram: a column of the table, shape (capacity, `BINS`).
        clipped: a column of the table: frames with samples cut off.
    """

    def __init__(self, histogram: NDArray[np.uint32], clipped: NDArray[np.uint32]) -> None:
        self._histogram = histogram
        self._clipped = clipped

    def count(self, rows: NDArray[np.intp], line: NDArray[np.float32], power: NDArray[np.float32]) -> None:
        """One frame of each of ``rows``, each at most once, and its mean square."""
        # the exponent of a float is its power in steps of 3 dB
        bins = np.clip((power.view(np.int32) >> 23) - 127, 0, BINS - 1)
        self._histogram[rows, bins] += 1
        if power.max() >= _LOUD_POWER:
            loud = np.flatnonzero(power >= _LOUD_POWER)
            n_clipped = (np.abs(line[loud]) >= _CLIPPED).sum(axis=1)
            self._clipped[rows[loud[n_clipped >= _MIN_CLIPPED]]] += 1


def power_of(line: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean square of each frame."""
    power: NDArray[np.float32] = np.einsum("ij,ij->i", line, line) / np.float32(line.shape[1])
    return power


@attrs.frozen(slots=True)
class Levels:
    """Of one direction; None: too little was heard.

    Attributes:
        speech_dbov: active speech level.
        activity: share of the frames that were speech, 0–1.
        noise_dbov: what a tenth of the frames stays below.
        clipped: share of the frames with samples cut off.
        frames: counted.
        silent: all of them were digital silence.
    """

    speech_dbov: float | None
    activity: float
    noise_dbov: float | None
    clipped: float
    frames: int
    silent: bool


_DIGITAL_SILENCE_BINS: Final = 7
"""Power below 128: the quietest values of both laws, which are all that a muted source sends."""


def levels_of(histogram: NDArray[np.uint32], clipped: int) -> Levels:
    """What the histogram of one direction says."""
    counts = histogram.astype(np.float64)
    frames = int(counts.sum())
    silent = frames > 0 and not counts[_DIGITAL_SILENCE_BINS:].any()
    if frames < MIN_FRAMES:
        return Levels(None, 0.0, None, 0.0, frames, silent)
    speech_dbov, activity = _active_level(counts)
    noise_bin = int(np.searchsorted(np.cumsum(counts), _NOISE_SHARE * frames))
    noise_dbov = round(noise_bin * _BIN_DB + _MEAN_DB - _OVERLOAD_DB, 1)
    return Levels(speech_dbov, activity, noise_dbov, round(clipped / frames, 4), frames, silent)


def _active_level(counts: NDArray[np.float64]) -> tuple[float | None, float]:
    """Level in dBov and activity: where the mean over the frames above a threshold is 15.9 dB above the threshold."""
    edges_db = np.arange(BINS) * _BIN_DB
    energy = float((counts * 10 ** ((edges_db + _MEAN_DB) / 10)).sum())
    above = np.cumsum(counts[::-1])[::-1]
    before: tuple[float, float, float] | None = None
    for edge_db, n_above in zip(edges_db.tolist(), above.tolist(), strict=True):
        if not n_above:
            break
        level_db = 10 * math.log10(energy / n_above)
        margin = level_db - edge_db - _MARGIN_DB
        share = n_above / counts.sum()
        if margin <= 0:
            if before is not None and before[0] > margin:
                part = before[0] / (before[0] - margin)
                level_db = before[1] + part * (level_db - before[1])
                share = before[2] + part * (share - before[2])
            break
        before = margin, level_db, share
    else:
        return None, 0.0
    dbov = level_db - _OVERLOAD_DB
    if dbov < 10 * math.log10(float(AUDIBLE_POWER)) - _OVERLOAD_DB:
        return None, 0.0
    return round(dbov, 1), round(share, 3)
