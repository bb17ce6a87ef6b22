"""Peers that a redirect has named: configured ones, or connections made for it, few and closed when idle (trio)."""

from __future__ import annotations

from typing import Protocol

import trio

from diameter.backoff import BusyBackoff
from diameter.connector import DEFAULT_PORTS
from diameter.dictionary.base import DisconnectCause
from diameter.node_config import NodeConfig
from diameter.peer_link import PeerConfig, PeerLink
from diameter.redirect import DiameterUri
from diameter.routing import matches_host
from diameter.transport import Connection

__all__ = ["RedirectTargets", "TargetOwner"]

# a host that cannot be reached is not tried again for this long, then twice as long …
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 30.0


class TargetOwner(Protocol):
    """What redirect targets need of their node."""

    links: list[PeerLink]

    @property
    def nursery(self) -> trio.Nursery | None: ...
    def new_link(self, name: str, config: PeerConfig | None) -> PeerLink: ...
    async def connect(self, peer: PeerConfig) -> Connection: ...
    def on_target_gone(self, link: PeerLink) -> None: ...
    def count(self, what: str) -> None: ...


class RedirectTargets:
    """The peers of one node that exist because of redirects."""

    def __init__(self, owner: TargetOwner, config: NodeConfig) -> None:
        self._owner = owner
        self._config = config
        self._n_targets = 0
        self._unreachable = BusyBackoff(first_s=_FIRST_PAUSE_S, max_s=_MAX_PAUSE_S)

    def find(self, uri: DiameterUri, realm: str) -> PeerLink | None:
        """The peer for a redirect: open, or being connected. None: not allowed, not reachable, or no room.

        Args:
            realm: Destination-Realm of the request.
        """
        host = uri.host.lower()
        if host == self._config.origin_host.lower():
            self._owner.count("redirect_loop")
            return None
        for link in self._owner.links:
            if link.origin_host.lower() == host and (link.is_open or link.is_redirect_target):
                return link
        nursery = self._owner.nursery
        if nursery is None or not self._may_connect(uri, realm):
            return None
        peer = PeerConfig(uri.host, uri.port or DEFAULT_PORTS[uri.transport], uri.transport, uri.host)
        link = self._owner.new_link(peer.name, peer)
        link.is_redirect_target = True
        link.last_used = trio.current_time()
        self._owner.links.append(link)
        self._n_targets += 1
        nursery.start_soon(self._serve, link, peer)
        return link

    def _may_connect(self, uri: DiameterUri, realm: str) -> bool:
        config = self._config
        realms = {realm, config.origin_realm}
        realms.update(link.capabilities.origin_realm for link in self._owner.links if link.capabilities is not None)
        trusted = [*config.redirect_hosts, *(f".{name.lower()}" for name in realms if name), *realms]
        is_supported = uri.transport == "tcp" or (uri.transport == "tls" and config.tls is not None)
        if not config.follow_redirects or not is_supported or not matches_host(uri.host, trusted):
            self._owner.count("redirect_refused")
            return False
        if self._unreachable.is_busy(uri.host, now=trio.current_time()):
            return False
        if self._n_targets >= config.max_redirect_peers:
            self._owner.count("redirect_no_room")
            return False
        return True

    async def _serve(self, link: PeerLink, peer: PeerConfig) -> None:
        """One connection, until it ends or nothing was redirected to it for a while."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._close_when_idle, link)
                await link.connect_once(lambda: self._owner.connect(peer))
                nursery.cancel_scope.cancel()
        finally:
            if link.n_opened:
                self._unreachable.note_served(peer.host, now=trio.current_time())
            else:
                self._unreachable.note_busy(peer.host, now=trio.current_time())
            self._n_targets -= 1
            self._owner.links.remove(link)
            self._owner.on_target_gone(link)

    async def _close_when_idle(self, link: PeerLink) -> None:
        idle_s = self._config.redirect_idle_s
        used = float("-inf")
        while used != link.last_used:
            used = link.last_used
            await trio.sleep_until(used + idle_s)
        self._owner.count("redirect_peer_idle")
        link.stop(DisconnectCause.DO_NOT_WANT_TO_TALK_TO_YOU)
