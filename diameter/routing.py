"""Which peer gets a request (RFC 6733 §6.1.6), sans-IO.

A host that the request names is preferred if it is an open peer; otherwise peers count in the order of the
configuration. A peer that the watchdog trusts (OKAY) goes before one that has just come back (REOPEN): RFC 3539 would
not use the latter at all, but with nothing better it is better than nothing. SUSPECT peers get no new requests. Peers
that let a request run out of time without a word come last until they say something.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Set

from attrs import frozen

from diameter.dictionary.base import RELAY_APPLICATION_ID
from diameter.watchdog import WatchdogState

__all__ = ["ReconnectTimer", "Route", "choose_route", "matches_host"]

_RANK = {WatchdogState.OKAY: 0, WatchdogState.REOPEN: 1}


@frozen
class Route:
    """An open peer as routing sees it.

    Attributes:
        connection: the connection to send on.
        origin_host: the peer's DiameterIdentity.
        applications: ids that it announced; 0xffffffff (relay) serves all.
        watchdog: its state.
        peer: name of the peer, for logs.
        is_silent: it has said nothing for so long that a request ran out of time.
    """

    connection: Hashable
    origin_host: str
    applications: frozenset[int]
    watchdog: WatchdogState
    peer: str = ""
    is_silent: bool = False

    def serves(self, application_id: int) -> bool:
        """True for an announced application, for relays, and for base commands."""
        return application_id == 0 or application_id in self.applications or RELAY_APPLICATION_ID in self.applications


def choose_route(
    routes: Iterable[Route],
    *,
    application_id: int,
    destination_host: str | None = None,
    excluded: Set[Hashable] = frozenset(),
) -> Route | None:
    """The best route, or None.

    Args:
        routes: open peers in order of preference.
        excluded: connections that must not be used again (they have had the request already).
    """
    best: tuple[bool, bool, int] | None = None
    chosen: Route | None = None
    for route in routes:
        rank = _RANK.get(route.watchdog)
        if rank is None or route.connection in excluded or not route.serves(application_id):
            continue
        is_named = destination_host is not None and route.origin_host.lower() == destination_host.lower()
        score = (route.is_silent, not is_named, rank)
        if best is None or score < best:
            best, chosen = score, route
    return chosen


def matches_host(host: str, patterns: Iterable[str]) -> bool:
    """True when a DiameterIdentity is listed: by name, or by `.realm` which stands for all hosts of that realm."""
    name = host.lower()
    return any(
        name.endswith(pattern.lower()) if pattern.startswith(".") else name == pattern.lower() for pattern in patterns
    )


class ReconnectTimer:
    """Tc (RFC 6733 §2.1) with a short first retry: `first_s`, doubling to `max_s`; back to the start after success.

    A call must not wait half a minute because an HSS was restarted; a dead HSS is asked every 30 s as the RFC wants.
    """

    def __init__(self, *, first_s: float = 0.2, max_s: float = 30.0) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._delay_s = first_s

    def next_delay_s(self) -> float:
        """How long to wait now; the next time will be twice as long."""
        delay_s = self._delay_s
        self._delay_s = min(self._max_s, delay_s * 2)
        return delay_s

    def reset(self) -> None:
        """The peer is open."""
        self._delay_s = self._first_s

    def hold_off(self) -> None:
        """The peer does not want us for now (DPR with BUSY or DO_NOT_WANT_TO_TALK_TO_YOU): wait the full time."""
        self._delay_s = self._max_s
