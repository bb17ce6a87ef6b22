"""Packet-loss concealment for a batch of legs: the last pitch period is repeated and faded.

After ITU-T G.711 Appendix I in its idea: find by normalised correlation the lag at which the last 10 ms are most like
what came before, repeat that stretch, hold it for 10 ms, fade it to silence within 60 ms, and cross-fade into the first
good frame.  Loss is rare, so this works from the codes of the last two frames and keeps no decoded history.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["FADE_FRAMES", "HISTORY", "OVERLAP", "conceal", "overlap_into"]

FRAME: Final = 160
HISTORY: Final = 320
"""Samples of memory: two frames at 8 kHz."""
FADE_FRAMES: Final = 3
"""After so many concealed frames in a row there is silence."""
OVERLAP: Final = 40
"""5 ms cross-fade into the first good frame."""
_TEMPLATE: Final = 80
_MIN_LAG: Final = 40
_MAX_LAG: Final = 160
"""5 to 20 ms: voices from 50 Hz to 200 Hz, and higher ones at a multiple of their period."""
_GAINS: Final = (1.0, 0.8, 0.4, 0.0)


def conceal(history: NDArray[np.float32], run: int) -> NDArray[np.float32]:
    """One frame in place of a lost one.

    Args:
        history: the last two *good* frames, shape (n_legs, 320), 8 kHz.
        run: how many frames were concealed before this one since the last good frame.

    Returns:
        shape (n_legs, 160 + 40): the frame, and the stretch after it for the cross-fade into a good frame.
    """
    n_legs = len(history)
    length = FRAME + OVERLAP
    if run >= FADE_FRAMES:
        return np.zeros((n_legs, length), np.float32)
    lag = best_lag(history)
    offset = np.arange(run * FRAME, run * FRAME + length)
    index = HISTORY - lag[:, None] + offset[None, :] % lag[:, None]
    frame = np.take_along_axis(history, index, axis=1)
    start, end = _GAINS[run], _GAINS[run + 1]
    gain = np.empty(length, np.float32)
    gain[:FRAME] = np.linspace(start, end, FRAME, dtype=np.float32)
    gain[FRAME:] = end
    return frame * gain


def best_lag(history: NDArray[np.float32]) -> NDArray[np.int64]:
    """The lag of highest normalised correlation with the last 10 ms, shape (n_legs,)."""
    template = history[:, HISTORY - _TEMPLATE :]
    first = HISTORY - _TEMPLATE - _MAX_LAG
    windows = sliding_window_view(history[:, first : HISTORY - _MIN_LAG], _TEMPLATE, axis=1)
    dot = np.einsum("lwk,lk->lw", windows, template)
    energy = np.einsum("lwk,lwk->lw", windows, windows)
    score = dot / np.sqrt(energy + 1.0)
    return np.asarray(_MAX_LAG - np.argmax(score, axis=1), np.int64)


def overlap_into(good: NDArray[np.float32], tail: NDArray[np.float32]) -> None:
    """Cross-fades the first 5 ms of ``good`` (in place) from ``tail``, the stretch after the last concealed frame."""
    ramp = np.linspace(0, 1, OVERLAP, dtype=np.float32)
    good[..., :OVERLAP] = good[..., :OVERLAP] * ramp + tail * (1 - ramp)
