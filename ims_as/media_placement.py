"""Which worker gets the next leg: the least loaded one, of those that have room for it.

A worker reports its load once a second; what was placed on it since then is estimated from what a leg of that codec
costs.  The costs begin with what was measured (``docs/media.md``) and are learned from the reports.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

__all__ = ["CostModel", "WorkerLoad"]

COSTS: Final[Mapping[str, float]] = {
    "PCMU": 0.0013,
    "PCMA": 0.0013,
    "L16": 0.0013,
    "G722": 0.0030,
    "G729": 0.0056,
    "AMR": 0.0057,
    "OPUS": 0.0076,
    "AMR-WB": 0.0104,
}
"""Share of a core that one leg with an engine takes."""
UNKNOWN_COST: Final = 0.0104
SETTLING_S: Final = 1.5
"""A report shows a change of the legs by and by: after so long what is left of it is a third."""
STEP: Final = 0.2
LITTLE: Final = 0.05
"""Of a core: legs that cost less in all teach nothing."""
LEAST: Final = 0.2
MOST: Final = 8.0


class CostModel:
    """What a leg costs by codec: normalised least mean squares over the reports of all workers.

    A factor per codec says how far it is from the table, between `LEAST` and `MOST`; a report changes those of the
    codecs in proportion to what they contributed.
    """

    def __init__(self) -> None:
        self._factors: dict[str, float] = {}

    def cost(self, codec: str) -> float:
        """Share of a core."""
        name = codec.upper()
        return COSTS.get(name, UNKNOWN_COST) * self._factors.get(name, 1.0)

    def total(self, legs: Mapping[str, int]) -> float:
        """Of so many legs of each codec."""
        return sum(self.cost(codec) * count for codec, count in legs.items())

    def learn(self, legs: Mapping[str, int], load: float) -> None:
        """A report of a worker that had these legs all the time."""
        parts = {codec: COSTS.get(codec, UNKNOWN_COST) * count for codec, count in legs.items() if count}
        norm = sum(part * part for part in parts.values())
        if sum(parts.values()) < LITTLE:
            return
        error = load - sum(part * self._factors.get(codec, 1.0) for codec, part in parts.items())
        for codec, part in parts.items():
            factor = self._factors.get(codec, 1.0) + STEP * error * part / norm
            self._factors[codec] = min(MOST, max(LEAST, factor))


class WorkerLoad:
    """What is known of one worker's load; ``now`` is monotonic seconds.

    Attributes:
        reported: the smoothed load of its last report.
        legs: by codec, those on it now.
    """

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        self.reported = 0.0
        self.max_late_ms = 0.0
        self.legs: Counter[str] = Counter()
        self._codecs: dict[str, str] = {}
        self._unseen = 0.0
        """What the legs that came and went since lately cost, as far as reports do not show it yet."""
        self._unseen_at = 0.0
        self._is_steady = True

    def note(self, leg: str, codec: str, *, now: float) -> None:
        """A leg that speaks this codec from now on."""
        name = codec.upper()
        before = self._codecs.get(leg)
        if before == name:
            return
        if before is not None:
            self.forget(leg, now=now)
        self._codecs[leg] = name
        self.legs[name] += 1
        self._change(self._costs.cost(name), now)

    def forget(self, leg: str, *, now: float) -> None:
        """It is gone."""
        name = self._codecs.pop(leg, None)
        if name is None:
            return
        self.legs[name] -= 1
        if not self.legs[name]:
            del self.legs[name]
        self._change(-self._costs.cost(name), now)

    def _change(self, cost: float, now: float) -> None:
        self._unseen = self._unseen_now(now) + cost
        self._unseen_at = now
        self._is_steady = False

    def _unseen_now(self, now: float) -> float:
        return self._unseen * math.exp(-(now - self._unseen_at) / SETTLING_S)

    def report(self, load: float, latest: float, max_late_ms: float) -> None:
        """The worker has said how it is.

        Args:
            latest: of the last second, without what other programs took.
        """
        self.reported, self.max_late_ms = load, max_late_ms
        if self._is_steady:
            self._costs.learn(self.legs, latest)
        self._is_steady = True

    def estimate(self, *, now: float) -> float:
        """The load as it will show, 0 and up."""
        return max(0.0, self.reported + self._unseen_now(now))

    def has_room(self, codec: str, limit: float, *, now: float) -> bool:
        """Whether one more leg of that codec stays below the limit; a limit of 1 or more is none."""
        return limit >= 1.0 or self.estimate(now=now) + self._costs.cost(codec) <= limit
