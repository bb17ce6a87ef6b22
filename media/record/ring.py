"""Frames on their way from the media worker to its writer process: a ring in shared memory.

One process writes, one reads, neither ever waits: a full ring takes nothing, and who writes counts what that cost.  A
slot is one frame of one direction of one recording.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEARD", "SLOTS", "TOLD", "FrameRing", "Slots"]

SLOTS: Final = 32768
"""Three seconds of 100 wideband legs; memory that is never reached is never touched."""
HEARD: Final = 0
"""What came from the party: left."""
TOLD: Final = 1
"""What the party hears: right."""
MAX_SAMPLES: Final = 320
_HEADER: Final = 128
_SLOT: Final = np.dtype(
    [
        ("recording", "u4"),
        ("direction", "u2"),
        ("n_samples", "u2"),
        ("tick", "i8"),
        ("samples", "i2", (MAX_SAMPLES,)),
    ]
)

Slots = NDArray[np.void]


class FrameRing:
    """Either end of the ring.

    Attributes:
        fd: of the memory, to be inherited by the other process.
    """

    def __init__(self, fd: int | None = None, n_slots: int = SLOTS) -> None:
        """``fd`` None: a new ring.  Raises OSError: no memory."""
        size = _HEADER + n_slots * _SLOT.itemsize
        if fd is None:
            fd = os.memfd_create("recording", os.MFD_CLOEXEC)
            os.ftruncate(fd, size)
        self.fd = fd
        self._n = n_slots
        self._map = mmap.mmap(fd, size)
        # apart from each other, so that the two processes do not share a cache line
        self._head = np.frombuffer(self._map, np.int64, 1)
        self._tail = np.frombuffer(self._map, np.int64, 1, _HEADER // 2)
        slots = np.frombuffer(self._map, _SLOT, n_slots, _HEADER)
        self._slots = slots
        self._recording, self._direction, self._n_samples = slots["recording"], slots["direction"], slots["n_samples"]
        self._ticks, self._samples = slots["tick"], slots["samples"]

    @property
    def head(self) -> int:
        """Slots ever written."""
        return int(self._head[0])

    @property
    def tail(self) -> int:
        """Slots ever read."""
        return int(self._tail[0])

    def put(
        self,
        recordings: NDArray[np.uint32],
        direction: int,
        ticks: NDArray[np.int64] | int,
        samples: NDArray[np.int16],
    ) -> int:
        """Takes as many frames, shape (n, n_samples), as there is room for; returns how many."""
        head = int(self._head[0])
        n = min(len(recordings), self._n - (head - int(self._tail[0])))
        if n <= 0:
            return 0
        first = head % self._n
        if n < len(recordings):
            recordings, samples = recordings[:n], samples[:n]
            ticks = ticks if isinstance(ticks, int) else ticks[:n]
        at: slice | NDArray[np.intp] = slice(first, first + n)
        if first + n > self._n:
            at = np.arange(head, head + n) % self._n
        self._recording[at] = recordings
        self._direction[at] = direction
        self._n_samples[at] = samples.shape[1]
        self._ticks[at] = ticks
        self._samples[at, : samples.shape[1]] = samples
        self._head[0] = head + n
        return n

    def take(self, limit: int, most: int = 2048) -> Slots:
        """Copies the oldest slots, at most up to the number ``limit`` of the count `head`."""
        tail = int(self._tail[0])
        n = min(int(self._head[0]), limit) - tail
        n = max(0, min(n, most, self._n - tail % self._n))
        first = tail % self._n
        taken = self._slots[first : first + n].copy()
        self._tail[0] = tail + n
        return taken

    def close(self) -> None:
        for name in ("_head", "_tail", "_slots", "_recording", "_direction", "_n_samples", "_ticks", "_samples"):
            delattr(self, name)
        self._map.close()
        os.close(self.fd)
