"""From a next hop to the places to try (RFC 3263 §4).

The first that knows wins: IP literals and the static table (both at once, no waiting), then DNS: NAPTR, SRV, A and
AAAA, as far as the URI leaves something open. A name without a dot, and any name where no name server is configured or
found, is the system's resolver's.
"""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import trio

from ims_as.sip.flow import DEFAULT_PORTS, Destination
from ims_as.transport.rfc3263 import SERVICE_PREFIXES, Naptr, Srv, choose_services, order_services

__all__ = ["LOOK_UP_DEADLINE_S", "NameServers", "Resolver", "is_ip_address"]

LOOK_UP_DEADLINE_S: Final = 5.0
"""A name that takes longer is of no use to a call set-up (an S-CSCF waits 2 to 5 s for us)."""
MAX_TARGETS: Final = 16
"""Places that one request is tried at, at most."""
MAX_CACHED: Final = 2048
"""Answers kept, negative ones too, each for its TTL."""


def is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@attrs.frozen
class NameServers:
    """Whom to ask. No servers: those of the system (``/etc/resolv.conf``).

    Attributes:
        servers: address and port.
        timeout_s: for one question, all servers together.
    """

    servers: tuple[tuple[str, int], ...] = ()
    timeout_s: float = 1.5


class Resolver:
    """Names to addresses.

    Args:
        hosts: static names (in any case) to address and port; the port serves where the URI has none.
        dice: uniform in [0, 1), for the weights of SRV.
    """

    def __init__(
        self,
        hosts: Mapping[str, tuple[str, int]],
        config: NameServers | None = None,
        *,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._hosts = {name.lower().rstrip("."): address for name, address in hosts.items()}
        self._config = NameServers() if config is None else config
        self._dice = dice
        self._dns = self._make_dns()

    def _make_dns(self) -> dns.asyncresolver.Resolver | None:
        config = self._config
        try:
            resolver = dns.asyncresolver.Resolver(configure=not config.servers)
        except (dns.resolver.NoResolverConfiguration, dns.exception.DNSException, OSError):
            return None
        if config.servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in config.servers]
        resolver.lifetime = config.timeout_s
        resolver.cache = dns.resolver.LRUCache(MAX_CACHED)
        return resolver

    def known(self, destination: Destination) -> tuple[str, int] | None:
        """Address and port if no waiting is needed, else None."""
        host, port = destination.host, destination.port
        static = self._hosts.get(host.lower().rstrip("."))
        if static is not None:
            return static[0], port or static[1]
        if is_ip_address(host):
            return host, port or DEFAULT_PORTS[destination.transport]
        return None

    async def look_up(self, destination: Destination, transports: Sequence[str] = ()) -> tuple[Destination, ...]:
        """Ask for the places to try, best first. Safe to cancel.

        Args:
            transports: what we could use where the URI names none.

        Raises:
            OSError: the name has no address, or not within `LOOK_UP_DEADLINE_S`.
        """
        try:
            with trio.fail_after(LOOK_UP_DEADLINE_S):
                spoken = ("TLS",) if destination.is_sips else transports or (destination.transport,)
                found = await self._look_up(destination, spoken)
        except trio.TooSlowError as error:
            raise OSError(f"{destination.host}: no answer from the resolver") from error
        except (UnicodeError, dns.exception.DNSException) as error:  # a label that cannot be in the DNS
            raise OSError(f"{destination.host}: not a host name") from error
        if not found:
            raise OSError(f"{destination.host}: no address")
        return tuple(attrs.evolve(each, domain=destination.host) for each in found[:MAX_TARGETS])

    async def _look_up(self, destination: Destination, transports: Sequence[str]) -> list[Destination]:
        if self._dns is None or "." not in destination.host.rstrip("."):
            return await self._ask_system(destination)
        if destination.port:
            services = [(destination.transport, destination.host, destination.port)]
        else:
            services = await self._find_services(self._dns, destination, transports)
        found: list[Destination] = []
        for transport, host, port in services[:MAX_TARGETS]:
            found += [Destination(transport, address, port) for address in await self._find_addresses(host)]
        return found or await self._ask_system(destination)

    async def _find_services(
        self, resolver: dns.asyncresolver.Resolver, destination: Destination, transports: Sequence[str]
    ) -> list[tuple[str, str, int]]:
        """(transport, host, port) in the order to try; the host still needs an address."""
        host = destination.host
        names: list[tuple[str, str]] = []
        if destination.any_transport:
            records = [
                Naptr(each.order, each.preference, _text(each.flags), _text(each.service), str(each.replacement))
                for each in await self._ask(resolver, host, "NAPTR")
            ]
            names = choose_services(records, transports)
            if not names:
                without_naptr = [name for name in transports if (name == "TLS") is destination.is_sips]
                names = [(name, f"{SERVICE_PREFIXES[name]}.{host}") for name in without_naptr]
        else:
            names = [(destination.transport, f"{SERVICE_PREFIXES[destination.transport]}.{host}")]
        services: list[tuple[str, str, int]] = []
        is_denied = False
        for transport, name in names:
            records_of_name = [
                Srv(each.priority, each.weight, each.port, str(each.target))
                for each in await self._ask(resolver, name, "SRV")
            ]
            ordered = order_services(records_of_name, self._dice)
            services += [(transport, target, port) for target, port in ordered]
            is_denied = is_denied or (bool(records_of_name) and not ordered)
        if is_denied and not services:
            raise OSError(f"{host}: its DNS says that there is no such service")  # RFC 2782: a target of "."
        return services or [(destination.transport, host, DEFAULT_PORTS[destination.transport])]

    async def _find_addresses(self, host: str) -> list[str]:
        """IPv4 first: what an IMS core answers on today; the endpoint leaves out what it has no listener for."""
        if self._dns is None:
            return []
        if is_ip_address(host):
            return [host]
        static = self._hosts.get(host.lower())
        if static is not None:
            return [static[0]]
        found: list[str] = []
        for kind in ("A", "AAAA"):
            found += [str(each.address) for each in await self._ask(self._dns, host, kind)]
        return found

    @staticmethod
    async def _ask(resolver: dns.asyncresolver.Resolver, name: str, kind: str) -> list[Any]:
        """The records; none where there are none, where nobody answers, or where the answer is unusable."""
        try:
            answer = await resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoNameservers, dns.exception.Timeout):
            return []
        return list(answer.rrset or ())

    async def _ask_system(self, destination: Destination) -> list[Destination]:
        kind = socket.SOCK_DGRAM if destination.transport == "UDP" else socket.SOCK_STREAM
        port = destination.port or DEFAULT_PORTS[destination.transport]
        found = await trio.socket.getaddrinfo(destination.host, port, type=kind)
        addresses = dict.fromkeys((str(each[4][0]), int(each[4][1])) for each in found)
        return [Destination(destination.transport, *address) for address in addresses]


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
