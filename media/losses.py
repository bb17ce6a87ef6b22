"""The pattern in which packets of one leg were lost: how heavy, how bunched, and the worst stretch of the call.

Runs once per gap that was given up, never per packet: a place in the stream is the number of packets that came or were
given up before it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

__all__ = ["WINDOW_PACKETS", "LossPattern", "LossShare"]

WINDOW_PACKETS: Final = 500
"""10 s of packets of 20 ms."""


@attrs.frozen(slots=True)
class LossShare:
    """Loss within some stretch.

    Attributes:
        percent: of the packets that should have come.
        burst_ratio: mean length of the runs of lost packets, by that of random loss as heavy (G.107 clause 3.6).
    """

    percent: float = 0.0
    burst_ratio: float = 1.0

    @classmethod
    def of(cls, lost: int, runs: int, expected: int) -> LossShare:
        """``lost`` packets in ``runs`` runs, of ``expected``."""
        if not lost or not runs or expected <= 0:
            return cls()
        share = min(1.0, lost / expected)
        # random loss has runs of 1 / (1 - share)
        return cls(100 * share, max(1.0, lost / runs * (1 - share)))


@attrs.define
class LossPattern:
    """Of one leg, whatever source its packets had.

    Attributes:
        lost: packets given up.
        runs: how often at least one was, with one that came before and after.
    """

    lost: int = 0
    runs: int = 0
    _window: deque[tuple[int, int]] = attrs.Factory(deque)
    """Place behind a run and its length, of those within `WINDOW_PACKETS`."""
    _in_window: int = 0
    _worst_lost: int = 0
    _worst_runs: int = 0

    def note(self, missing: int, received: int) -> None:
        """A run of ``missing`` packets is given up; ``received`` have come so far."""
        self.lost += missing
        self.runs += 1
        place = received + self.lost
        missing = min(missing, WINDOW_PACKETS)
        self._window.append((place, missing))
        self._in_window += missing
        while self._window[0][0] <= place - WINDOW_PACKETS:
            self._in_window -= self._window.popleft()[1]
        if self._in_window > self._worst_lost:
            self._worst_lost, self._worst_runs = self._in_window, len(self._window)

    def whole(self, received: int) -> LossShare:
        """Of all that should have come."""
        return LossShare.of(self.lost, self.runs, received + self.lost)

    def worst(self, received: int) -> LossShare:
        """Of the worst 10 s; of all, where that is shorter."""
        return LossShare.of(self._worst_lost, self._worst_runs, min(WINDOW_PACKETS, received + self.lost))
