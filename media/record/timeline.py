"""Where a frame of a recording belongs in time.

Both channels are laid out on the worker's clock.  What the party hears stands where the RTP timestamps put it, so it
needs no decision.  What came from the party came with jitter and by another clock: its frames are joined without a
seam, and moved when over a while none came closer than `SLACK_MS` to where the stream stands: a stream that is late
gets silence inserted, one that is early loses as much, in a quiet frame if there is one within `PATIENCE_FRAMES`.  So
the channels stay within a frame of each other however long a call lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.record.ring import HEARD
from media.resample import Resampler, Upsampler
from media.table import TICK_MS

__all__ = ["HOLD_MS", "Timeline"]

SLACK_MS: Final = 10
GAP_MS: Final = 500
"""A stream that stands still for longer begins anew where it comes; what is shorter is jitter or a stall of ours."""
WINDOW_FRAMES: Final = 25
PATIENCE_FRAMES: Final = 75
QUIET_PEAK: Final = 250
HOLD_MS: Final = 700
"""Nothing older than this is still to come."""
WINDOW_S: Final = 3
BLEND_MS: Final = 5

Samples = NDArray[np.int16]


class Timeline:
    """Two channels of one recording, from a starting tick on; what is old enough goes to ``write``, shape (n, 2)."""

    def __init__(self, rate_hz: int, start_tick: int, write: Callable[[Samples], None]) -> None:
        self.rate_hz = rate_hz
        self._start = start_tick
        self._per_tick = rate_hz * TICK_MS // 1000
        self._write = write
        self._window = np.zeros((rate_hz * WINDOW_S, 2), np.int16)
        self._base = 0
        self._floor = 0
        """Nothing is laid before this any more."""
        self._heard: int | None = None
        self._least = 0
        self._n_seen = 0
        self._is_settled = False
        self._slack = rate_hz * SLACK_MS // 1000
        self._gap = rate_hz * GAP_MS // 1000
        self._hold = rate_hz * HOLD_MS // 1000
        self._blend = np.linspace(0, 1, rate_hz * BLEND_MS // 1000, dtype=np.float32)
        self._lines: dict[int, _Line] = {}
        self.moved = 0
        """How often the party's stream was moved."""

    def position(self, tick: int) -> int:
        """In samples from the beginning."""
        return max(0, (tick - self._start) * self._per_tick)

    def lay(self, direction: int, tick: int, samples: Samples) -> None:
        """A frame of the ring."""
        if len(samples) * 50 != self.rate_hz:
            line = self._lines.get(direction)
            if line is None or line.n_in != len(samples):
                line = self._lines[direction] = _Line(len(samples), self.rate_hz // 50)
            samples = line.convert(samples)
        target = (tick - self._start) * self._per_tick
        if direction == HEARD:
            self._lay_heard(target, samples)
        else:
            self._put(1, target, samples)

    def _lay_heard(self, target: int, samples: Samples) -> None:
        at = self._heard
        if at is None or target - at > self._gap or at - target > 2 * self._gap:
            at = target
            self._n_seen = 0
            self._is_settled = False
        lag = target - at
        self._least = lag if not self._n_seen else min(self._least, lag)
        self._n_seen += 1
        shift = self._least
        if not self._is_settled and shift < 0:  # the very first packets were late
            at += shift
            self._least = 0
        if self._n_seen >= WINDOW_FRAMES:
            self._is_settled = True
            if abs(shift) <= self._slack:
                self._n_seen = 0
            elif self._n_seen >= PATIENCE_FRAMES or int(np.abs(samples).max()) < QUIET_PEAK:
                at += shift
                self.moved += 1
                self._n_seen = 0
                if shift < 0 and at >= self._base:
                    samples = self._blended(at, samples)
        self._heard = at + len(samples)
        self._put(0, at, samples)

    def _blended(self, at: int, samples: Samples) -> Samples:
        """Begins with what stands there already, so that what is left out does not click."""
        n = len(self._blend)
        before = self._window[at - self._base : at - self._base + n, 0]
        if len(before) < n:
            return samples
        mixed = samples.astype(np.float32)
        mixed[:n] = mixed[:n] * self._blend + before * (1 - self._blend)
        return np.rint(mixed).astype(np.int16)

    def _put(self, channel: int, at: int, samples: Samples) -> None:
        end = at + len(samples)
        if end > self._base + len(self._window):
            self._flush(end - self._hold)
        first = max(at, self._base, self._floor)
        if first < end:
            self._window[first - self._base : end - self._base, channel] = samples[first - at :]

    def advance(self, tick: int) -> None:
        """It is that tick: what is older than `HOLD_MS` is written."""
        self._flush(self.position(tick) - self._hold)

    def skip(self, from_tick: int, to_tick: int) -> None:
        """Cuts a pause out: what comes after it follows what was before."""
        self._floor = self.position(from_tick)
        self._start += max(0, to_tick - from_tick)
        self._heard = None

    def finish(self, tick: int) -> int:
        """Writes everything up to that tick; returns the length in samples."""
        end = self.position(tick)
        self._flush(end)
        return end

    def _flush(self, until: int) -> None:
        while (n := min(until - self._base, len(self._window))) > 0:
            self._write(self._window[:n].copy())
            rest = len(self._window) - n
            self._window[:rest] = self._window[n:]
            self._window[rest:] = 0
            self._base += n


class _Line:
    """Frames of a line whose codec was changed in the call, at the recording's rate."""

    def __init__(self, n_in: int, n_out: int) -> None:
        self.n_in = n_in
        self._filter = Upsampler(n_out // n_in) if n_out > n_in else Resampler(n_in * 50, n_out * 50)
        self._history = np.zeros((1, self._filter.history), np.float32)

    def convert(self, samples: Samples) -> Samples:
        extended = np.concatenate([self._history, samples[None, :].astype(np.float32)], axis=1)
        self._history = extended[:, -self._filter.history :]
        converted: Samples = np.clip(np.rint(self._filter.process(extended)[0]), -32768, 32767).astype(np.int16)
        return converted
