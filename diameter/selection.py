"""Which peer gets a request now: order and state of the peers, back-off, overload reports; sans-IO.

With one healthy peer and nobody overloaded this is one look at the list.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence, Set
from typing import Protocol

from diameter.backoff import BusyBackoff
from diameter.dictionary import base
from diameter.errors import NoPeerError, PeerBusyError, ThrottledError
from diameter.message import Message
from diameter.overload import OverloadControl
from diameter.routing import Route, choose_route
from diameter.watchdog import WatchdogState

__all__ = ["RouteSelection"]


class Peer(Protocol):
    """A peer as the selection sees it."""

    is_redirect_target: bool

    def route(self) -> Route | None: ...


class RouteSelection:
    """Chooses among the peers of one node.

    Args:
        peers: in order of preference; the list itself, as it changes. Redirect targets are left out: they serve only
            what was redirected to them.
    """

    def __init__(self, peers: Sequence[Peer], backoff: BusyBackoff, overload: OverloadControl) -> None:
        self._peers = peers
        self._backoff = backoff
        self._overload = overload

    def first(self, message: Message, host: str | None, *, now: float) -> Route:
        """The route of a new request.

        Args:
            host: its Destination-Host.

        Raises:
            NoPeerError: no open peer serves the application; PeerBusyError: those that do have asked for a pause;
                ThrottledError: it is one of those that an overload report wants dropped.
        """
        application_id = message.application_id
        is_limited = bool(self._backoff.pauses or self._overload.states)
        if host is None and not is_limited:
            # the usual case: the first peer is well
            for peer in self._peers:
                if peer.is_redirect_target:
                    continue
                well = peer.route()
                if well is None or well.watchdog is not WatchdogState.OKAY or well.is_silent:
                    continue
                if well.serves(application_id):
                    return well
        if self._overload.states:
            self._check_overload(message, host, now)
        route = choose_route(self._routes(), application_id=application_id, destination_host=host)
        if route is None:
            raise NoPeerError(f"no open peer for application {application_id}")
        if not is_limited:
            return route
        if host is not None and self._backoff.is_busy(host, now=now):
            raise PeerBusyError(f"{host} has asked for a pause")
        passed: set[Hashable] = set()
        error: NoPeerError = NoPeerError("")
        while route is not None:
            if self._backoff.is_busy(route.origin_host, now=now):
                error = PeerBusyError(f"{route.origin_host} has asked for a pause")
            elif self._overload.throttles_host(application_id, route.origin_host, now=now):
                error = ThrottledError(f"{route.origin_host} is overloaded")
            else:
                return route
            passed.add(route.connection)
            route = choose_route(self._routes(), application_id=application_id, destination_host=host, excluded=passed)
        raise error

    def other(
        self, application_id: int, host: str | None, excluded: Set[Hashable], *, now: float, is_urgent: bool
    ) -> Route | None:
        """The route of a request that one peer has had already.

        Args:
            excluded: connections that have had it.
            is_urgent: with nobody else left, take one that has asked for a pause.
        """
        busy = {route.connection for route in self._routes() if self._backoff.is_busy(route.origin_host, now=now)}

        def choose(without: Set[Hashable]) -> Route | None:
            return choose_route(self._routes(), application_id=application_id, destination_host=host, excluded=without)

        route = choose(excluded | busy)
        return choose(excluded) if route is None and is_urgent and busy else route

    def is_peer(self, host: str) -> bool:
        """True when an open peer has that DiameterIdentity."""
        return any(route.origin_host.lower() == host.lower() for route in self._routes())

    def _check_overload(self, message: Message, host: str | None, now: float) -> None:
        if host is not None:
            if not self.is_peer(host) and self._overload.throttles_host(message.application_id, host, now=now):
                raise ThrottledError(f"{host} is overloaded")
            return
        realm = message.text(base.DESTINATION_REALM) or ""
        if self._overload.throttles_realm(message.application_id, realm, now=now):
            raise ThrottledError(f"realm {realm} is overloaded")

    def _routes(self) -> Iterator[Route]:
        for peer in self._peers:
            if not peer.is_redirect_target and (route := peer.route()) is not None:
                yield route
