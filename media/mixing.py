"""What is heard under an engine's speech: filler that fades out beneath it, and a background bed.

A layer is a clip with a gain that moves in a straight line; layers are added to the frames of the legs that have some
(column ``mixed``), behind the change of sources and before the codec.  A leg without layers pays nothing, and none is
looked at while no leg has any (`Mixer.active`).  What is played of the engine, and when, does not change.
"""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray

from media.clips import Clip
from media.table import FRAME_TICKS, TICK_MS, LegTable

__all__ = ["FADE_FRAMES", "Layer", "Mixer", "soft_limit"]

FADE_MS: Final = 200
FADE_FRAMES: Final = FADE_MS // (FRAME_TICKS * TICK_MS)
_KNEE: Final = np.float32(28000)
"""-1.4 dBov: what is louder is pressed together below full scale instead of being cut off."""
_ROOM: Final = np.float32(32767) - _KNEE


@attrs.define(eq=False)
class Layer:
    """A clip in a loop.

    Attributes:
        gain: now; it goes to ``target`` by ``step`` a sample, and a layer that has faded to nothing is over.
    """

    clip: Clip
    position: int
    gain: float
    target: float
    step: float

    def fade_to(self, gain: float, rate_hz: int) -> None:
        self.target = gain
        self.step = abs(gain - self.gain) / (rate_hz * FADE_MS / 1000)

    def next_frame(self, size: int) -> NDArray[np.float32]:
        """20 ms."""
        clip = self.clip
        at = np.arange(self.position, self.position + size) % len(clip)
        self.position = int(at[-1]) + 1
        frame = clip[at].astype(np.float32)
        if self.gain == self.target:
            frame *= np.float32(self.gain)
            return frame
        way = self.target - self.gain
        moved = np.minimum(self.step * np.arange(1, size + 1), abs(way)) * np.sign(way)
        frame *= (self.gain + moved).astype(np.float32)
        # exactly there at the end, for the sums of small steps are not
        self.gain = self.target if abs(float(moved[-1])) >= abs(way) - 1e-9 else self.gain + float(moved[-1])
        return frame

    @property
    def is_over(self) -> bool:
        return self.gain == self.target == 0


def soft_limit(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nothing below the knee changes; nothing is above full scale."""
    loud = np.abs(samples)
    over = loud > _KNEE
    if over.any():
        pressed = _KNEE + _ROOM * np.tanh((loud[over] - _KNEE) / _ROOM)
        samples[over] = np.sign(samples[over]) * pressed
    return samples


class Mixer:
    """The layers of all legs.

    Attributes:
        active: how many legs have some; 0: nothing else is to be called.
        n_filler: legs that hear filler now (column ``filler``).
    """

    def __init__(self, table: LegTable) -> None:
        self._table = table
        self._fading: dict[int, list[Layer]] = {}
        self._beds: dict[int, Layer] = {}
        self.active = 0
        self.n_filler = 0

    def set_filler(self, row: int, is_on: bool) -> None:
        """Whether the leg's clip is filler, which fades out under speech."""
        if bool(self._table.filler[row]) != is_on:
            self._table.filler[row] = is_on
            self.n_filler += 1 if is_on else -1

    def fade_out(self, row: int, clip: Clip, position: int, gain: float, rate_hz: int) -> None:
        """A clip that was heard with that gain until now goes on under what comes, and away."""
        layer = Layer(clip, position, gain, gain, 0.0)
        layer.fade_to(0.0, rate_hz)
        self._fading.setdefault(row, []).append(layer)
        self._count(row)

    def set_bed(self, row: int, clip: Clip | None, gain: float, rate_hz: int) -> None:
        """What is heard under everything from now on; None: it fades out."""
        bed = self._beds.get(row)
        if clip is None:
            if bed is not None:
                bed.fade_to(0.0, rate_hz)
            return
        if bed is None or bed.clip is not clip:
            bed = self._beds[row] = Layer(clip, 0, 0.0, 0.0, 0.0)
        bed.fade_to(gain, rate_hz)
        self._count(row)

    def forget(self, row: int) -> None:
        """The leg is gone, or its line is another: nothing of its layers is heard any more."""
        self._fading.pop(row, None)
        self._beds.pop(row, None)
        self._count(row)

    def mix(self, rows: NDArray[np.intp], line: NDArray[np.float32]) -> None:
        """Adds the layers to the frames of ``rows``, shape (n, size), in place."""
        size = line.shape[1]
        for place in np.flatnonzero(self._table.mixed[rows]).tolist():
            row = int(rows[place])
            fading, bed = self._fading.get(row, ()), self._beds.get(row)
            for layer in fading if bed is None else (*fading, bed):
                line[place] += layer.next_frame(size)
            soft_limit(line[place])
            if fading and all(layer.is_over for layer in fading):
                del self._fading[row]
                self._count(row)
            if bed is not None and bed.is_over:
                del self._beds[row]
                self._count(row)

    def _count(self, row: int) -> None:
        is_mixed = row in self._fading or row in self._beds
        if bool(self._table.mixed[row]) != is_mixed:
            self._table.mixed[row] = is_mixed
            self.active += 1 if is_mixed else -1
