"""Whether the HSS can be reached, and lets us: the alarms ``hss-…`` and ``sh-…``, from what node and Sh client show.

Pure; somebody calls `HssWatch.observe` now and then.  A trouble must last for a while before it is an alarm; its end
counts at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ims_as.oss.alarms import AlarmList

__all__ = ["MIN_UNANSWERED", "HssWatch"]

MIN_UNANSWERED: Final = 3
"""Requests without any answer among them that tell more of the HSS than of one request."""
PERMITTED_AFTER_S: Final = 3600.0
"""What was refused is not asked for again for some minutes."""


class _Since:
    """Since when something has held without a break."""

    def __init__(self) -> None:
        self.at: float | None = None

    def note(self, holds: bool, now: float) -> None:
        self.at = (now if self.at is None else self.at) if holds else None

    def for_s(self, now: float) -> float:
        return -1.0 if self.at is None else now - self.at


class HssWatch:
    """Raises and clears for one realm.

    Args:
        realm: the object of ``hss-unreachable``.
        hold_s: how long a trouble lasts before it is an alarm, in seconds.
    """

    def __init__(self, alarms: AlarmList, *, realm: str, hold_s: float) -> None:
        self._alarms = alarms
        self._realm = realm
        self._hold_s = hold_s
        self._no_peer = _Since()
        self._no_answer = _Since()
        self._closed: dict[str, _Since] = {}
        self._answered = 0
        self._unanswered = 0
        self._in_a_row = 0
        self._not_permitted = 0
        self._refused_at = 0.0

    def observe(
        self,
        peers: Mapping[str, bool],
        *,
        answered: int,
        unanswered: int,
        now: float,
        wall: float,
        failures: Mapping[str, str] | None = None,
        not_permitted: int = 0,
    ) -> None:
        """Looks once.

        Args:
            peers: whether each configured peer is open.
            answered, unanswered: Sh requests since the start that got an answer, whatever it said, and that got none.
            now: monotonic seconds.
            wall: wall clock seconds, for the alarms.
            failures: why a peer is not open, where that is known.
            not_permitted: requests since the start that the HSS refused for want of a permission.
        """
        self._look_at_permissions(not_permitted, now, wall)
        for gone in self._closed.keys() - peers.keys():  # it had connected to us
            del self._closed[gone]
            self._alarms.clear("hss-peer-down", gone, now=wall)
        for peer, is_open in peers.items():
            closed = self._closed.setdefault(peer, _Since())
            closed.note(not is_open, now)
            if is_open:
                self._alarms.clear("hss-peer-down", peer, now=wall)
            elif closed.for_s(now) >= self._hold_s and not self._alarms.is_active("hss-peer-down", peer):
                self._alarms.raise_alarm("hss-peer-down", peer, (failures or {}).get(peer, ""), now=wall)
        had_peer = self._no_peer.at is None
        self._no_peer.note(not any(peers.values()), now)
        # what was lost with the connection says nothing of the HSS that comes back
        self._count(answered, unanswered, counts=had_peer and self._no_peer.at is None)
        self._no_answer.note(self._in_a_row > 0, now)
        detail = self._trouble(now)
        if detail is not None:
            if not self._alarms.is_active("hss-unreachable", self._realm):
                self._alarms.raise_alarm("hss-unreachable", self._realm, detail, now=wall)
        elif self._no_peer.at is None and not self._in_a_row:
            self._alarms.clear("hss-unreachable", self._realm, now=wall)

    def _count(self, answered: int, unanswered: int, *, counts: bool) -> None:
        if answered > self._answered or not counts:
            self._in_a_row = 0
        else:
            self._in_a_row += unanswered - self._unanswered
        self._answered, self._unanswered = answered, unanswered

    def _look_at_permissions(self, not_permitted: int, now: float, wall: float) -> None:
        if not_permitted > self._not_permitted:
            self._refused_at = now
            self._alarms.raise_alarm("sh-not-permitted", self._realm, f"{not_permitted} since the start", now=wall)
        elif now - self._refused_at >= PERMITTED_AFTER_S:
            self._alarms.clear("sh-not-permitted", self._realm, now=wall)
        self._not_permitted = not_permitted

    def _trouble(self, now: float) -> str | None:
        if self._no_peer.at is not None:
            return "no Diameter peer is open" if self._no_peer.for_s(now) >= self._hold_s else None
        if self._in_a_row >= MIN_UNANSWERED and self._no_answer.for_s(now) >= self._hold_s:
            return f"{self._in_a_row} Sh requests in a row were not answered"
        return None
