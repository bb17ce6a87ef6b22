"""Whether one-way audio is a fault of the network or of one telephone: the alarm ``one-way-audio``.

Pure; somebody calls `QualityWatch.observe` now and then.  What counts is how many parties were not heard, or did not
hear us, among the calls that began to talk within the last minutes: one telephone that calls again and again is one.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from ims_as.oss.alarms import AlarmList

__all__ = ["MIN_PARTIES", "RAISE_SHARE", "WINDOW_S", "QualityWatch"]

WINDOW_S: Final = 300.0
BUCKET_S: Final = 10.0
MIN_PARTIES: Final = 5
"""So many parties, and"""
RAISE_SHARE: Final = 0.05
"""such a share of the calls make an alarm; it is over below half of either."""
MAX_PARTIES: Final = 1000
"""Remembered of ten seconds; more than enough for any alarm."""


@attrs.define
class _Bucket:
    start: float
    calls: int = 0
    parties: set[str] = attrs.Factory(set)


class QualityWatch:
    """Raises and clears for one server.

    Args:
        object_: of the alarm: our address for RTP.
    """

    def __init__(self, alarms: AlarmList, *, object_: str = "media") -> None:
        self._alarms = alarms
        self._object = object_
        self._buckets: deque[_Bucket] = deque()

    def call_talks(self, now: float) -> None:
        """A call was answered and acknowledged."""
        self._bucket(now).calls += 1

    def one_way(self, party: str, now: float) -> None:
        """A call has audio in one direction only; ``party``: who is at its other end."""
        parties = self._bucket(now).parties
        if len(parties) < MAX_PARTIES:
            parties.add(party)

    def observe(self, *, now: float, wall: float) -> None:
        """Looks once.

        Args:
            now: monotonic seconds.
            wall: wall clock seconds, for the alarm.
        """
        self._forget(now)
        parties = len(set[str]().union(*(bucket.parties for bucket in self._buckets)))
        calls = max(parties, sum(bucket.calls for bucket in self._buckets))
        share = parties / calls if calls else 0.0
        is_active = self._alarms.is_active("one-way-audio", self._object)
        if not is_active and parties >= MIN_PARTIES and share >= RAISE_SHARE:
            detail = f"{parties} parties in {calls} calls within {WINDOW_S:.0f} s"
            self._alarms.raise_alarm("one-way-audio", self._object, detail, now=wall)
        elif is_active and (parties < MIN_PARTIES / 2 or share < RAISE_SHARE / 2):
            self._alarms.clear("one-way-audio", self._object, now=wall)

    def _bucket(self, now: float) -> _Bucket:
        if not self._buckets or now >= self._buckets[-1].start + BUCKET_S:
            self._forget(now)
            self._buckets.append(_Bucket(now))
        return self._buckets[-1]

    def _forget(self, now: float) -> None:
        while self._buckets and now >= self._buckets[0].start + WINDOW_S:
            self._buckets.popleft()
