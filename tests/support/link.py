"""SIP endpoint cores joined by a fake network that can lose, delay and double datagrams.

`LinkNetwork` holds any number of endpoints by address and one clock; `run` moves the time from event to event. What
happens to a datagram is told by `fate`: the delays of its copies (none: lost).
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Sequence

from ims_as.sip.core import EndpointCore, Targets
from ims_as.sip.flow import Destination, Flow
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.timers import TimerConfig
from tests.support.manual_clock import ManualClock

__all__ = ["LinkEndpoint", "LinkNetwork", "bad_link", "link_pair"]

DELAY_S = 0.001

Address = tuple[str, int]
Fate = Callable[[bytes, Address, Address], Sequence[float]]


def _good_link(data: bytes, source: Address, target: Address) -> Sequence[float]:
    return (DELAY_S,)


def bad_link(seed: int, *, loss: float = 0.2, duplicate: float = 0.1, jitter_s: float = 0.05) -> Fate:
    """Loses, doubles and reorders at random, the same way for the same seed."""
    rng = random.Random(seed)

    def fate(data: bytes, source: Address, target: Address) -> Sequence[float]:
        if rng.random() < loss:
            return ()
        n_copies = 2 if rng.random() < duplicate else 1
        return [DELAY_S + rng.random() * jitter_s for _ in range(n_copies)]

    return fate


class LinkEndpoint(EndpointCore):
    """An endpoint on the fake network; names in `names` need a look-up that takes a moment."""

    def __init__(self, network: LinkNetwork, address: Address, **options: object) -> None:
        self._count = 0

        def token() -> str:
            self._count += 1
            return hashlib.sha256(f"{address} {self._count}".encode()).hexdigest()[:16]

        super().__init__(
            clock=network.clock,
            wall_clock=network.clock,
            token=token,
            timers=network.timers,
            **options,  # type: ignore[arg-type]
        )
        self.address = address
        self.network = network
        self.names: dict[str, Address | Sequence[Address]] = {}
        """Where names lead to: one address, or several in order."""
        self.failing: str | None = None
        """Why nothing can be sent, for tests of transport failures."""

    @property
    def n_connections(self) -> int:
        return 0

    def _transmit_bytes(self, flow: Flow, data: bytes) -> str | None:
        if self.failing is not None:
            return self.failing
        self.network.carry(data, self.address, flow.remote)
        return None

    def _flow_to(self, destination: Destination) -> Flow | None:
        if destination.transport != "UDP":
            raise OSError("no TCP listener")
        if not destination.host[0].isdigit():
            return None
        return Flow("UDP", self.address, (destination.host, destination.port or 5060))

    def _look_up(self, destination: Destination, callback: Callable[[Targets | str], None]) -> None:
        found = self.names.get(destination.host, ())
        addresses = (found,) if found and isinstance(found[0], str) else found
        answer = tuple(Destination("UDP", *address) for address in addresses) or "no such host"
        self.call_at(self.now() + 0.05, lambda: callback(answer))

    def _listener(self, transport: str, host: str) -> Address:
        return self.address


class LinkNetwork:
    """The clock, the datagrams under way, and a log of all that was sent."""

    def __init__(self, fate: Fate = _good_link, timers: TimerConfig | None = None) -> None:
        self.clock = ManualClock()
        self.timers = TimerConfig() if timers is None else timers
        self.fate = fate
        self.endpoints: dict[Address, LinkEndpoint] = {}
        self.sent: list[tuple[float, Address, Address, bytes]] = []
        self._under_way: list[tuple[float, int, Address, Address, bytes]] = []
        self._count = 0

    def add(self, host: str, port: int = 5060, **options: object) -> LinkEndpoint:
        endpoint = self.endpoints[host, port] = LinkEndpoint(self, (host, port), **options)
        return endpoint

    def carry(self, data: bytes, source: Address, target: Address) -> None:
        self.sent.append((self.clock(), source, target, data))
        for delay in self.fate(data, source, target):
            self._count += 1
            heapq.heappush(self._under_way, (self.clock() + delay, self._count, source, target, data))

    def _next(self) -> float | None:
        times = [deadline for each in self.endpoints.values() if (deadline := each.next_deadline()) is not None]
        if self._under_way:
            times.append(self._under_way[0][0])
        return min(times) if times else None

    def run(self, seconds: float) -> None:
        """Let that time pass."""
        end = self.clock() + seconds
        while (when := self._next()) is not None and when <= end:
            self.clock.time = max(self.clock(), when)
            while self._under_way and self._under_way[0][0] <= self.clock():
                _, _, source, target, data = heapq.heappop(self._under_way)
                receiver = self.endpoints.get(target)
                if receiver is not None:
                    receiver.receive_datagram_untrusted(data, Flow("UDP", target, source))
            for each in self.endpoints.values():
                each.handle_timers(self.clock())
        self.clock.time = end

    def messages(self, source: LinkEndpoint | None = None) -> list[str]:
        """What was sent, in short: ``INVITE``, ``200 INVITE`` …"""
        names = []
        for _, sender, _, data in self.sent:
            if source is not None and sender != source.address:
                continue
            message = parse_message_untrusted(data)
            if isinstance(message, Request):
                names.append(message.method)
            else:
                assert isinstance(message, Response)
                names.append(f"{message.status} {message.cseq.method}")
        return names

    def assert_clean(self) -> None:
        """No endpoint has anything left, nor met a bug."""
        for each in self.endpoints.values():
            assert each.stats.is_idle, (each.address, each.stats)
            assert not each.counters.guard_errors, (each.address, each.counters.guard_errors)


def link_pair(
    fate: Fate = _good_link, timers: TimerConfig | None = None
) -> tuple[LinkNetwork, LinkEndpoint, LinkEndpoint]:
    """Two endpoints: 10.0.0.1 and 10.0.0.2."""
    network = LinkNetwork(fate, timers)
    return network, network.add("10.0.0.1"), network.add("10.0.0.2")
