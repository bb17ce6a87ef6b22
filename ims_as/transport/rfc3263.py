"""What the DNS says of a SIP domain, weighed: NAPTR by order and preference (RFC 3263 §4.1), SRV by priority and
weight (RFC 2782). Nothing here asks anybody, and the dice are passed in; `resolver` does the asking.

A `Plan` is all that was found for a next hop. It is kept for its time to live, and the places to try are drawn from it
anew for each request, so that the weights hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from ims_as.sip.flow import Destination

__all__ = ["MAX_TARGETS", "SERVICE_PREFIXES", "Naptr", "Plan", "Service", "Srv", "choose_services", "order_services"]

MAX_TARGETS: Final = 16
"""Places that one request is tried at, at most."""

MAX_RECORDS: Final = 32
"""Of one answer: more is no redundancy but an attack."""
SERVICE_PREFIXES: Final = {"UDP": "_sip._udp", "TCP": "_sip._tcp", "TLS": "_sips._tcp"}
"""RFC 3263 §4.1 and §4.2."""
_NAPTR_SERVICES: Final = {"sip+d2u": "UDP", "sip+d2t": "TCP", "sips+d2t": "TLS"}


class Naptr(NamedTuple):
    """RFC 3403: what of a NAPTR record matters to us."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Srv(NamedTuple):
    """RFC 2782."""

    priority: int
    weight: int
    port: int
    target: str


class Service(NamedTuple):
    """Where a domain is reached by one transport."""

    transport: str
    records: tuple[Srv, ...]


@attrs.frozen
class Plan:
    """What the DNS knows of a next hop.

    Attributes:
        domain: the next hop's host.
        services: by preference.
        addresses: of the hosts that the services name.
    """

    domain: str
    services: tuple[Service, ...]
    addresses: Mapping[str, Sequence[str]]

    def draw(self, random: Callable[[], float]) -> tuple[Destination, ...]:
        """The places to try, best first; `random` is uniform in [0, 1)."""
        places: list[Destination] = []
        for service in self.services:
            for host, port in order_services(service.records, random):
                places += [
                    Destination(service.transport, address, port, domain=self.domain)
                    for address in self.addresses.get(host, ())
                ]
        return tuple(dict.fromkeys(places))[:MAX_TARGETS]


def choose_services(records: Iterable[Naptr], transports: Sequence[str]) -> list[tuple[str, str]]:
    """The (transport, SRV name) pairs to try, best first: by order, then preference (RFC 3263 §4.1).

    Args:
        transports: those that we speak; records for others are left out.
    """
    chosen: list[tuple[str, str]] = []
    for record in sorted(list(records)[:MAX_RECORDS]):
        transport = _NAPTR_SERVICES.get(record.service.lower())
        if transport in transports and record.flags.lower() == "s" and transport is not None:
            pair = (transport, record.replacement.rstrip("."))
            if pair not in chosen:
                chosen.append(pair)
    return chosen


def order_services(records: Iterable[Srv], random: Callable[[], float]) -> list[tuple[str, int]]:
    """(host, port) pairs by priority; within one, drawn by weight (RFC 2782).

    Args:
        random: uniform in [0, 1).
    """
    usable = [record for record in list(records)[:MAX_RECORDS] if record.target.rstrip(".") and record.port]
    ordered: list[tuple[str, int]] = []
    for priority in sorted({record.priority for record in usable}):
        # those of weight 0 first, so that they have a chance as the RFC wants
        left = sorted((record for record in usable if record.priority == priority), key=lambda record: record.weight)
        while left:
            drawn = _draw(left, random)
            left.remove(drawn)
            ordered.append((drawn.target.rstrip("."), drawn.port))
    return ordered


def _draw(records: Sequence[Srv], random: Callable[[], float]) -> Srv:
    total = sum(record.weight for record in records)
    mark = int(random() * (total + 1))
    running = 0
    for record in records:
        running += record.weight
        if running >= mark:
            return record
    return records[-1]
