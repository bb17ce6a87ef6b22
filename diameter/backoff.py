"""Hosts that have answered DIAMETER_TOO_BUSY are left alone for a while (RFC 6733 §7.1.3), sans-IO.

The first TOO_BUSY costs 0.1 s, each one in a row twice as much, to 5 s; a good answer ends it. Answers that were under
way when the pause began do not lengthen it.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define

__all__ = ["BusyBackoff"]


@define
class _Pause:
    delay_s: float
    until: float


class BusyBackoff:
    """Which hosts are left alone, by DiameterIdentity.

    Args:
        first_s, max_s: shortest and longest pause.
        max_hosts: hosts remembered at most; the one that was busy longest ago is forgotten first.

    Attributes:
        pauses: empty when no host was busy lately, to be looked at before anything else.
    """

    def __init__(self, *, first_s: float = 0.1, max_s: float = 5.0, max_hosts: int = 1024) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._max_hosts = max_hosts
        self.pauses: OrderedDict[str, _Pause] = OrderedDict()

    def note_busy(self, host: str, *, now: float) -> None:
        """The host has answered TOO_BUSY."""
        key = host.lower()
        pause = self.pauses.get(key)
        if pause is None:
            self.pauses[key] = _Pause(self._first_s, now + self._first_s)
            if len(self.pauses) > self._max_hosts:
                self.pauses.popitem(last=False)
        elif now >= pause.until:
            pause.delay_s = min(self._max_s, pause.delay_s * 2)
            pause.until = now + pause.delay_s
            self.pauses.move_to_end(key)

    def note_served(self, host: str, *, now: float) -> None:
        """The host has served a request; one that was under way when the pause began says nothing."""
        key = host.lower()
        pause = self.pauses.get(key)
        if pause is not None and now >= pause.until:
            del self.pauses[key]

    def is_busy(self, host: str, *, now: float) -> bool:
        """True while the host is left alone."""
        pause = self.pauses.get(host.lower())
        return pause is not None and now < pause.until
