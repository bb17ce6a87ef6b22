"""How much one peer may send: messages at all, requests that open something, calls.

Token buckets by source address in a bounded table; who has been quiet longest leaves it first (and comes back with full
buckets, which is what it would have by then). A limit of 0 is no limit, and costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

import attrs

from ims_as.defence.token_bucket import TokenBucket

__all__ = ["MAX_PEERS", "NO_RATES", "PeerLimiter", "PeerRates"]

MAX_PEERS: Final = 10_000

Network = IPv4Network | IPv6Network


@attrs.frozen
class PeerRates:
    """Per second; 0: no limit."""

    messages: float = 0.0
    """Everything; more is dropped unread."""
    requests: float = 0.0
    """Requests outside of dialogs, INVITEs among them; more is refused."""
    calls: float = 0.0
    """INVITEs outside of dialogs; more is refused."""
    burst_s: float = 1.0
    """Seconds' worth that may come at once."""


NO_RATES: Final = PeerRates()


class _Peer:
    __slots__ = ("calls", "messages", "requests")

    def __init__(self, rates: PeerRates, now: float) -> None:
        def bucket(rate: float) -> TokenBucket | None:
            return TokenBucket(rate, max(1.0, rate * rates.burst_s), now=now) if rate else None

        self.messages = bucket(rates.messages)
        self.requests = bucket(rates.requests)
        self.calls = bucket(rates.calls)


class PeerLimiter:
    """Times are monotonic seconds.

    Args:
        default: of every peer that no network is for.
        networks: rates of networks, the first that holds an address counts.
    """

    def __init__(self, default: PeerRates = NO_RATES, networks: Sequence[tuple[Network, PeerRates]] = ()) -> None:
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
        self.change(default, networks)

    def change(self, default: PeerRates, networks: Sequence[tuple[Network, PeerRates]] = ()) -> None:
        """Other rates from now on; all buckets are full again."""
        self._default = default
        self._networks = tuple(networks)
        self._peers.clear()
        rates = [default, *(each for _, each in networks)]
        self.limits_messages = any(each.messages for each in rates)
        """Whether `admits_message` needs to be asked at all."""
        self.limits_requests = any(each.requests or each.calls for each in rates)
        """Whether `refusal` needs to be asked at all."""

    def __len__(self) -> int:
        return len(self._peers)

    def admits_message(self, host: str, *, now: float) -> bool:
        """Whether one more message of that address is to be read."""
        bucket = self._peer(host, now).messages
        return bucket is None or bucket.take(1.0, now=now)

    def refusal(self, host: str, *, is_call: bool, now: float) -> str | None:
        """Why a new request of that address is refused; None: it is counted and may go on."""
        peer = self._peer(host, now)
        if is_call and peer.calls is not None and not peer.calls.has(1.0, now=now):
            return "peer-calls"
        if peer.requests is not None and not peer.requests.take(1.0, now=now):
            return "peer-requests"
        if is_call and peer.calls is not None:
            peer.calls.take(1.0, now=now)
        return None

    def _peer(self, host: str, now: float) -> _Peer:
        peers = self._peers
        peer = peers.get(host)
        if peer is None:
            if len(peers) >= MAX_PEERS:
                peers.popitem(last=False)
            peer = peers[host] = _Peer(self._rates(host), now)
        else:
            peers.move_to_end(host)
        return peer

    def _rates(self, host: str) -> PeerRates:
        try:
            address = ip_address(host)
        except ValueError:
            return self._default
        return next((rates for network, rates in self._networks if address in network), self._default)
