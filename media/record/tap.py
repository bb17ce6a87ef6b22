"""Where the plane's audio leaves for the recordings, as columns.

Without a recording the plane looks at one number (`Tap.active`) per batch and nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from media.record.ring import HEARD, TOLD, FrameRing
from media.table import LegTable

__all__ = ["Tap"]


class Tap:
    """What the plane calls.

    Attributes:
        active: how many legs record now; 0: nothing else is to be called.
        recording: number of the recording of each row, 0: none, or it pauses.
        lost: frames of the row that found no room.
    """

    def __init__(self, table: LegTable) -> None:
        self.active = 0
        self.ring: FrameRing | None = None
        self.recording = np.zeros(table.capacity, np.uint32)
        self.lost = np.zeros(table.capacity, np.int64)
        self._table = table

    def hear(self, rows: NDArray[np.intp], line: NDArray[np.float32], tick: int) -> None:
        """20 ms from the party of each row, shape (n, 160) or (n, 320)."""
        self._put(HEARD, rows, line, tick)

    def tell(self, rows: NDArray[np.intp], line: NDArray[np.float32]) -> None:
        """20 ms that each party is about to be sent, before its turn is over."""
        self._put(TOLD, rows, line, None)

    def _put(self, direction: int, rows: NDArray[np.intp], line: NDArray[np.float32], tick: int | None) -> None:
        recordings = self.recording[rows]
        chosen = np.flatnonzero(recordings)
        if not len(chosen) or self.ring is None:
            return
        if len(chosen) < len(rows):
            rows, recordings, line = rows[chosen], recordings[chosen], line[chosen]
        samples = np.rint(line)
        np.clip(samples, -32768, 32767, out=samples)
        ticks = self._table.nominal[rows] if tick is None else tick
        taken = self.ring.put(recordings, direction, ticks, samples.astype(np.int16))
        if taken < len(rows):
            self.lost[rows[taken:]] += 1
