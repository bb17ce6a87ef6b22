"""From a next hop to the places to try (RFC 3263 §4).

The first that knows wins: IP literals and the static table, then what is kept of earlier look-ups (both at once, no
waiting), then DNS: NAPTR, SRV, A and AAAA, as far as the URI leaves something open. The system's resolver is asked for
names without a dot, and for what the DNS does not know where no name servers are configured (``/etc/hosts``).

When the DNS falls silent, what it said before is used for up to a day (RFC 8767), and it is asked again after
`RECHECK_S`: calls go on.
"""

from __future__ import annotations

import random
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import attrs
import dns.exception
import trio

from ims_as.sip.flow import DEFAULT_PORTS, Destination
from ims_as.transport.dns_client import MAX_TTL_S, NEGATIVE_TTL_S, DnsClient, DnsSilentError, NameServers, Records
from ims_as.transport.identity import is_ip_address
from ims_as.transport.rfc3263 import (
    MAX_TARGETS,
    SERVICE_PREFIXES,
    Naptr,
    Plan,
    Service,
    Srv,
    choose_services,
    order_services,
)

__all__ = ["LOOK_UP_DEADLINE_S", "NameServers", "Resolver", "is_ip_address", "key_of"]

LOOK_UP_DEADLINE_S: Final = 5.0
"""A name that takes longer is of no use to a call set-up (an S-CSCF waits 2 to 5 s for us)."""
MAX_STALE_S: Final = 86_400.0
"""How long beyond its time an answer may be used while the DNS is silent."""
RECHECK_S: Final = 30.0
"""While the DNS is silent it is asked no more often for what is known."""
SYSTEM_TTL_S: Final = 30.0
"""Of what the system's resolver says, which tells no time to live."""

Key = tuple[str, str, int, bool, bool]


@attrs.frozen
class _Kept:
    plan: Plan | str
    """Or why there is none."""
    until: float


@attrs.define
class _Finding:
    """A look-up under way: the shortest time to live of what it has used."""

    ttl_s: float = MAX_TTL_S

    def use(self, records: Records) -> tuple[Any, ...]:
        self.ttl_s = min(self.ttl_s, records.ttl_s)
        return records.items


class Resolver:
    """Names to addresses.

    Args:
        hosts: static names (in any case) to address and port; the port serves where the URI has none.
        families: kinds of addresses that we can send from, ``A`` and ``AAAA``; the first are tried first.
        dice: uniform in [0, 1), for the weights of SRV.
    """

    def __init__(
        self,
        hosts: Mapping[str, tuple[str, int]],
        config: NameServers | None = None,
        *,
        families: Collection[str] = ("A", "AAAA"),
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._hosts = {name.lower().rstrip("."): address for name, address in hosts.items()}
        self._config = NameServers() if config is None else config
        self._families = families
        self._dice = dice
        self._dns: DnsClient | None
        try:
            self._dns = DnsClient(self._config)
        except OSError:
            self._dns = None
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._silent_until = 0.0

    def known(self, destination: Destination) -> tuple[str, int] | None:
        """Address and port if they are in the URI or the static table, else None."""
        host, port = destination.host, destination.port
        static = self._hosts.get(host.lower().rstrip("."))
        if static is not None:
            return static[0], port or static[1]
        if is_ip_address(host):
            return host, port or DEFAULT_PORTS[destination.transport]
        return None

    def kept(self, destination: Destination) -> tuple[Destination, ...]:
        """The places to try as known from an earlier look-up; none if it has to be asked."""
        key = key_of(destination)
        kept = self._kept.get(key)
        now = trio.current_time()
        if kept is None or isinstance(kept.plan, str):
            return ()
        is_usable = now < kept.until or now < min(self._silent_until, kept.until + MAX_STALE_S)
        return kept.plan.draw(self._dice) if is_usable else ()

    async def look_up(self, destination: Destination, transports: Sequence[str] = ()) -> tuple[Destination, ...]:
        """Ask for the places to try, best first. Safe to cancel.

        Args:
            transports: what we could use where the URI names none, by preference.

        Raises:
            OSError: the name has no address, or not within `LOOK_UP_DEADLINE_S`.
        """
        key = key_of(destination)
        kept = self._kept.get(key)
        if kept is not None and isinstance(kept.plan, str) and trio.current_time() < kept.until:
            raise OSError(kept.plan)
        plan: Plan | str
        try:
            plan, ttl_s = await self._find(destination, transports or (destination.transport,))
        except DnsSilentError:
            now = trio.current_time()
            self._silent_until = now + RECHECK_S
            if kept is None or isinstance(kept.plan, str) or now > kept.until + MAX_STALE_S:
                raise
            return kept.plan.draw(self._dice)
        self._keep(key, plan, ttl_s)
        if isinstance(plan, str):
            raise OSError(plan)
        return plan.draw(self._dice)

    def _keep(self, key: Key, plan: Plan | str, ttl_s: float) -> None:
        if self._config.cache:
            self._kept[key] = _Kept(plan, trio.current_time() + ttl_s)
            self._kept.move_to_end(key)
            if len(self._kept) > self._config.cache:
                self._kept.popitem(last=False)

    async def _find(self, destination: Destination, transports: Sequence[str]) -> tuple[Plan | str, float]:
        """The plan, or why there is none, and for how long that is so.

        Raises:
            DnsSilentError: nobody answers, or not in time.
        """
        host = destination.host
        finding = _Finding()
        try:
            with trio.fail_after(LOOK_UP_DEADLINE_S):
                plan = await self._find_plan(destination, transports, finding)
        except trio.TooSlowError as error:
            raise DnsSilentError(f"{host}: no answer from the resolver") from error
        except DnsSilentError:
            raise
        except OSError as error:
            return f"{host}: {error.strerror or error}", NEGATIVE_TTL_S
        except (UnicodeError, dns.exception.DNSException):
            return f"{host}: not a host name", NEGATIVE_TTL_S
        if not any(plan.addresses.values()):
            return f"{host}: no address", NEGATIVE_TTL_S
        return plan, finding.ttl_s

    async def _find_plan(self, destination: Destination, transports: Sequence[str], finding: _Finding) -> Plan:
        host = destination.host
        if host.lower().rstrip(".").endswith(".invalid"):  # RFC 6761
            raise OSError("no address")
        if self._dns is None or "." not in host.rstrip("."):
            return await self._ask_system(destination, finding)
        try:
            if destination.port:
                services = [Service(destination.transport, (Srv(0, 0, destination.port, host),))]
            else:
                services = await self._find_services(self._dns, destination, transports, finding)
            names = dict.fromkeys(name for service in services for name, _ in order_services(service.records, _first))
            addresses: dict[str, list[str]] = {}
            for name in list(names)[:MAX_TARGETS]:
                addresses[name] = await self._find_addresses(self._dns, name, finding)
        except DnsSilentError as silent:
            if self._config.servers:
                raise
            try:
                return await self._ask_system(destination, finding)  # it may be in /etc/hosts
            except OSError:
                raise silent from None
        if not any(addresses.values()) and not self._config.servers:
            return await self._ask_system(destination, finding)
        return Plan(host, tuple(services), addresses)

    async def _find_services(
        self, resolver: DnsClient, destination: Destination, transports: Sequence[str], finding: _Finding
    ) -> list[Service]:
        """By preference; the hosts still need addresses."""
        host = destination.host
        if destination.any_transport:
            wanted = [name for name in transports if name == "TLS" or not destination.is_sips]
            records = [
                Naptr(each.order, each.preference, _text(each.flags), _text(each.service), str(each.replacement))
                for each in finding.use(await resolver.ask(host, "NAPTR"))
            ]
            names = choose_services(records, wanted)
            if not names:
                # §4.1: "_sips" for sips: URIs, "_sip" for others
                without_naptr = [name for name in wanted if (name == "TLS") is destination.is_sips]
                names = [(name, f"{SERVICE_PREFIXES[name]}.{host}") for name in without_naptr]
        else:
            names = [(destination.transport, f"{SERVICE_PREFIXES[destination.transport]}.{host}")]
        services: list[Service] = []
        is_denied = False
        for transport, name in names:
            found = [
                Srv(each.priority, each.weight, each.port, str(each.target).rstrip("."))
                for each in finding.use(await resolver.ask(name, "SRV"))
            ]
            usable = order_services(found, _first)
            if usable:
                services.append(Service(transport, tuple(found)))
            is_denied = is_denied or (bool(found) and not usable)
        if is_denied and not services:
            raise OSError("its DNS says that there is no such service")  # RFC 2782: a target of "."
        default = Srv(0, 0, DEFAULT_PORTS[destination.transport], host)
        return services or [Service(destination.transport, (default,))]

    async def _find_addresses(self, resolver: DnsClient, host: str, finding: _Finding) -> list[str]:
        if is_ip_address(host):
            return [host]
        static = self._hosts.get(host.lower())
        if static is not None:
            return [static[0]]
        found: list[str] = []
        for kind in self._families:
            found += [str(each.address) for each in finding.use(await resolver.ask(host, kind))]
        return found

    async def _ask_system(self, destination: Destination, finding: _Finding) -> Plan:
        host = destination.host
        port = destination.port or DEFAULT_PORTS[destination.transport]
        answers = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        wanted = {socket.AF_INET: "A", socket.AF_INET6: "AAAA"}
        found = dict.fromkeys(
            str(address[0]) for family, *_, address in answers if wanted.get(family) in self._families
        )
        finding.ttl_s = SYSTEM_TTL_S
        return Plan(host, (Service(destination.transport, (Srv(0, 0, port, host),)),), {host: list(found)})


def key_of(destination: Destination) -> Key:
    """What makes a look-up another one."""
    return (
        destination.transport,
        destination.host.lower(),
        destination.port,
        destination.any_transport,
        destination.is_sips,
    )


def _first() -> float:
    return 0.0


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
