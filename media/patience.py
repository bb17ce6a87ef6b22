"""How long one leg waits for what is missing: learned from its jitter, and at once from what came too late.

The estimate of RFC 3550 takes dozens of packets to see a network that reorders. A packet that comes after it was given
up says exactly how long the wait should have been: so long it is from then on, less a little with time.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from media.order import MAX_WAIT_TICKS, MIN_WAIT_TICKS, gap_wait_ticks
from media.table import TICK_MS
from media.unwrap import sequence_distance

__all__ = ["Patience"]

FORGET_TICKS: Final = 400
"""What was learned from lateness is shorter by a sub-tick every two seconds."""
MAX_GAPS: Final = 8
USUAL_WAIT_TICKS: Final = gap_wait_ticks(0.0, TICK_MS)


@attrs.frozen(slots=True)
class _Gap:
    """Packets that were given up."""

    first: int
    count: int
    opened: int


@attrs.define
class Patience:
    """Of one leg."""

    _learned: int = 0
    _learned_at: int = 0
    _gaps: deque[_Gap] = attrs.Factory(lambda: deque(maxlen=MAX_GAPS))

    def wait_ticks(self, jitter_ms: float, tick: int) -> int:
        """How long a gap that opens at ``tick`` may wait."""
        learned = self._learned - (tick - self._learned_at) // FORGET_TICKS if self._learned else 0
        return max(gap_wait_ticks(jitter_ms, TICK_MS), learned)

    def beyond_usual_ticks(self, jitter_ms: float, tick: int) -> int:
        """By how much that is more than on a network without jitter."""
        return max(0, self.wait_ticks(jitter_ms, tick) - USUAL_WAIT_TICKS)

    def given_up(self, first: int, count: int, opened: int) -> None:
        """``count`` packets from sequence number ``first`` on, for which was waited since ``opened``."""
        self._gaps.append(_Gap(first & 0xFFFF, count, opened))

    def came_after_all(self, sequence: int, tick: int) -> bool:
        """Learns from a packet that is behind; False: it had come before, and is a duplicate."""
        for gap in self._gaps:
            if 0 <= sequence_distance(gap.first, sequence) < gap.count:
                needed = min(MAX_WAIT_TICKS, max(MIN_WAIT_TICKS, tick - gap.opened + 1))
                if needed >= self.wait_ticks(0.0, tick):
                    self._learned, self._learned_at = needed, tick
                return True
        return False

    def restart(self) -> None:
        """Another source: its sequence numbers have nothing to do with the former ones; the network is the same."""
        self._gaps.clear()
