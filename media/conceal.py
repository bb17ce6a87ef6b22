"""Packet-loss concealment for codecs that have none: the last pitch period is repeated and faded.

After ITU-T G.711 Appendix I, without its delay: find by normalised correlation the lag at which the last 10 ms are most
like what came before; repeat that period, its end blended into its beginning; fade it to silence within 50 ms; and
cross-fade into what comes after the loss, the longer the loss was. Appendix I correlates over 20 ms: 10 ms measured
better (PESQ 0.03), and this 0.08 better than libspandsp, on the recordings of `bench.speech_quality`.

Loss is rare, so it works from the last 40 ms and keeps nothing else.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["FADE_MS", "FRAME_MS", "HISTORY_MS", "conceal", "continued", "cross_fade", "pitch_period", "recover"]

FRAME_MS: Final = 20
HISTORY_MS: Final = 40
FADE_MS: Final = 50
_TEMPLATE_MS: Final = 10
_MIN_LAG_MS: Final = 5
_MAX_LAG_MS: Final = 15
"""Voices from 66 Hz to 200 Hz, and higher ones at a multiple of their period."""
_LONGER_MS: Final = 8
"""By so much the cross-fade is longer for each further frame that was lost."""

_ONSET_MS: Final = 5
"""After silence; it may have been a pause, and what follows the beginning of a word."""

Samples = NDArray[np.float32]


def conceal(history: Samples, run: int, rate_hz: int = 8000) -> Samples:
    """20 ms in place of a lost frame, after ``run`` others; ``history``: see `pitch_period`."""
    n_samples = FRAME_MS * rate_hz // 1000
    if run * FRAME_MS >= FADE_MS:
        return np.zeros(n_samples, np.float32)
    return continued(pitch_period(history, rate_hz), run, n_samples, rate_hz)


def recover(good: Samples, history: Samples, run: int, rate_hz: int = 8000) -> None:
    """`cross_fade` for who keeps no period; ``history``: from before the loss."""
    if run * FRAME_MS < FADE_MS:
        cross_fade(good, pitch_period(history, rate_hz), run, rate_hz)
    else:
        cross_fade(good, history[-1:] * 0, run, rate_hz)


def pitch_period(history: Samples, rate_hz: int) -> Samples:
    """What is to be repeated.

    Args:
        history: the last 40 ms of good samples.
        rate_hz: of them.

    Returns:
        one period, or a multiple of it, that follows ``history`` and itself without a click.
    """
    lag = _best_lag(history, rate_hz)
    n_blend = lag // 4
    period = history[-lag:].copy()
    ramp = _ramp(n_blend)
    period[-n_blend:] = period[-n_blend:] * (1 - ramp) + history[-lag - n_blend : -lag] * ramp
    return period


def continued(period: Samples, run: int, n_samples: int, rate_hz: int) -> Samples:
    """Samples in place of what is lost.

    Args:
        period: of `pitch_period`.
        run: how many frames of 20 ms were concealed before.
        n_samples: how many are needed.
    """
    at = np.arange(n_samples) + run * FRAME_MS * rate_hz // 1000
    gain = np.maximum(0, 1 - at * (1000 / (FADE_MS * rate_hz)))
    faded: Samples = (period[at % len(period)] * gain).astype(np.float32)
    return faded


def cross_fade(good: Samples, period: Samples, run: int, rate_hz: int) -> None:
    """Fades in place from what was made up into ``good``, the first samples after ``run`` concealed frames."""
    ms = rate_hz // 1000
    is_silent = run * FRAME_MS >= FADE_MS
    n = min(len(good), _ONSET_MS * ms if is_silent else len(period) // 4 + _LONGER_MS * ms * (run - 1))
    ramp = _ramp(n)
    good[:n] = good[:n] * ramp + continued(period, run, n, rate_hz) * (1 - ramp)


def _ramp(n: int) -> Samples:
    """From just above 0 to just below 1."""
    return np.linspace(0, 1, n + 2, dtype=np.float32)[1:-1]


def _best_lag(history: Samples, rate_hz: int) -> int:
    """The lag of highest normalised correlation with the last 10 ms."""
    ms = rate_hz // 1000
    end = len(history) - _TEMPLATE_MS * ms
    template = history[end:]
    windows = sliding_window_view(history[end - _MAX_LAG_MS * ms : -_MIN_LAG_MS * ms], len(template))
    score = windows @ template / np.sqrt(np.einsum("wk,wk->w", windows, windows) + 1.0)
    return _MAX_LAG_MS * ms - int(np.argmax(score))
